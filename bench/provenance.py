"""What a run is made of: its request, its recipe, the hashes that make runs comparable, the packages."""

from __future__ import annotations

import math
import platform
import socket
import subprocess
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import noise, prompts
from bench.config import Config
from bench.record import LedgerError

if TYPE_CHECKING:
    from bench.session import Session

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "safetensors")


def describe(session: Session) -> dict[str, Any]:
    """The content of run.json: the same for the same request and code, byte for byte."""
    config, row, recipe = session.config, session.row, session.recipe
    sampling = config.sampling
    return {
        "run_id": f"{config.suite}/{row.name}/seed{config.seed}",
        "row": row.name,
        "method": row.method,
        "setting": row.setting,
        "backbone": row.backbone,
        "task": row.task,
        "recipe": recipe.columns() if recipe else {},
        "seed": config.seed,
        "scale": config.scale,
        "suite": config.suite,
        "updates": session.updates,
        "paper_updates": row.paper_updates,
        "latent_elements": math.prod(session.policy.latent_shape),
        "train_steps": sampling.steps,
        "groups": sampling.groups,
        "group_size": sampling.group_size,
        "hashes": hashes(session),
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "config": asdict(config),
    }


# Settings that change no number of a run, and paths: what is behind them is in the hashes.
FREE = {"force", "runs", "suite", "tracking", "prompts", "weights"}


def check_same(info: dict[str, Any], settings: Config, folder: Path) -> None:
    """Whether the run that `info` describes was asked for with these settings.

    Raises:
        LedgerError: it was not; going on would mix two runs, skipping it would show one for the other.
    """
    then, now = (flatten(config) for config in (info["config"], asdict(settings)))
    changed = [key for key in now | then if then.get(key) != now.get(key) and not FREE & {*key.split(".")}]
    if changed:
        shown = ", ".join(f"{key} was {then.get(key)}, now {now.get(key)}" for key in changed[:3])
        raise LedgerError(
            f"the run in {folder} has other settings ({shown}); FORCE=1 repeats it, runs= puts this one elsewhere"
        )


def check_same_inputs(info: dict[str, Any], session: Session, folder: Path) -> None:
    """Whether the prompts, their targets, the noise and the weights are those of the run that `info` describes.

    Raises:
        LedgerError: they are not; what is behind a path has changed since the run began.
    """
    then, now = info["hashes"], hashes(session)
    changed = [key for key in now | then if then.get(key) != now.get(key)]
    if changed:
        raise LedgerError(
            f"the run in {folder} began with other {' and '.join(changed)}; FORCE=1 repeats it, "
            "runs= puts this one elsewhere"
        )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def hashes(session: Session) -> dict[str, str]:
    """What must agree between runs that are compared.

    `prompts`: the training prompts of every epoch in order; `noise`: noise at fixed coordinates; `evaluation`: the
    evaluation prompts with their noise; `weights`: the pipeline's. Base runs have no training prompts.
    """
    seed, shape = session.config.seed, session.policy.latent_shape
    epochs = session.updates // session.config.optim.updates_per_rollout
    groups = session.config.sampling.groups
    trained = [p for e in range(epochs) for p in prompts.of_epoch(session.train_prompts, groups, seed, e)]
    first = session.eval_prompts[0].id
    found = {"noise": noise.fingerprint(seed, first, shape), "weights": session.weights}
    found["evaluation"] = prompts.fingerprint(session.eval_prompts) + found["noise"]
    return found | ({"prompts": prompts.fingerprint(trained)} if trained else {})


@cache
def git_commit() -> str:
    """The checkout's commit, with `-dirty` where tracked files differ from it; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def host() -> dict[str, Any]:
    """Where an epoch ran; kept apart from the metrics, which must not depend on it."""
    return {"host": socket.gethostname(), "machine": platform.machine()}
