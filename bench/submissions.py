"""What `slurm/SUITE.sh` would submit, in its own words: the script itself is run, with DRY_RUN=1."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config import ConfigError

SCRIPTS = Path(__file__).resolve().parents[1] / "slurm"
# What the scripts take by a name of their own (slurm/env.sh); every other override goes on to bench.train.
VARIABLES = {"scale": "SCALE", "protocol": "PROTOCOL", "row": "ROWS", "seed": "SEEDS", "runs": "RUNS"}


@dataclass(frozen=True)
class Submission:
    """The commands, and what those of the rows ask for.

    Attributes:
        gpus: of one row.
        scale: as the scripts have it, from the settings or the environment.
    """

    commands: list[str]
    rows: list[str]
    seeds: list[int]
    gpus: int
    scale: str


def submission(suite: str, overrides: Sequence[str]) -> Submission:
    """What would be submitted for a suite with these settings; nothing is.

    Raises:
        ConfigError: the scripts are not there, or refuse the settings; with what they say.
    """
    script = SCRIPTS / f"{suite}.sh"
    if not script.exists():
        raise ConfigError(f"no {script}; jobs are submitted from a checkout of the repository")
    given = os.environ | _variables(overrides) | {"DRY_RUN": "1"}
    done = subprocess.run(["bash", str(script)], env=given, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(done.stderr.strip() or f"{script} ended with code {done.returncode}")
    commands = done.stdout.splitlines()
    exported, first = (_values(line) for line in commands[:2])
    gpus = int(first["--nodes"]) * int(first.get("--gpus-per-node", 0))
    seeds = [int(each) for each in exported["SEEDS"].split(",")]
    return Submission(
        commands,
        exported["ROWS"].split(","),
        seeds,
        gpus,
        exported["SCALE"],
    )


def _values(command: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)


def _variables(overrides: Sequence[str]) -> dict[str, str]:
    found, others = {"PYTHON": os.environ.get("PYTHON", sys.executable)}, list[str]()
    for override in overrides:
        key, _, value = override.partition("=")
        if key in VARIABLES:
            found[VARIABLES[key]] = value
        else:
            others.append(override)
    return found | ({"OVERRIDES": "\n".join(others)} if others else {})
