"""Jobs of `slurm/` on the Slurm of the tests, with small settings and their files in a folder of their own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from slurm_cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
SUBMITTED = re.compile(r"in job (\d+), gold scores in (\d+), the report in (\d+)")


@dataclass
class Study:
    """What is asked of `slurm/table1.sh`, at scale=tiny.

    Attributes:
        folder: of its runs, table and logs.
        settings: variables of slurm/env.sh.
    """

    cluster: Cluster
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def variables(self) -> dict[str, str]:
        folders = {"RUNS": str(self.runs), "OUT": str(self.folder / "out"), "GOLD_METRICS_HOME": str(self.folder)}
        return {"SCALE": "tiny", "PYTHON": sys.executable} | folders | self.settings

    def begin(self) -> int:
        """Submits the whole study by one sbatch; returns the number of the job that submits the others."""
        log = self.folder / "head.out"
        log.unlink(missing_ok=True)
        return self.cluster.sbatch(f"--output={log}", "slurm/table1.sh", cwd=ROOT, **self.variables)

    def jobs(self, head: int) -> list[int]:
        """The jobs of its rows, gold scores and report, once `head` has submitted them."""
        self.cluster.wait(lambda: self.cluster.ended(head))
        log = (self.folder / "head.out").read_text()
        found = SUBMITTED.search(log)
        assert found, log
        return [int(number) for number in found.groups()]

    def submit_rows(self) -> int:
        """Its rows alone, by the command that the script gives for them; the job's number."""
        self.runs.mkdir(parents=True, exist_ok=True)
        exported, rows, *_ = dry_run("table1", **self.variables).splitlines()
        (self.runs / "slurm").mkdir(exist_ok=True)
        values = dict(word.split("=", 1) for word in shlex.split(exported)[1:])
        return self.cluster.sbatch(*shlex.split(rows)[2:], cwd=ROOT, **self.variables | values)

    def log(self, name: str = "*") -> str:
        """What its jobs of that name printed."""
        return "".join(path.read_text() for path in sorted((self.runs / "slurm").glob(f"{name}-*.out")))


def dry_run(suite: str, **variables: str) -> str:
    """What a script would submit."""
    asked = os.environ | {"PYTHON": sys.executable} | variables | {"DRY_RUN": "1"}
    done = subprocess.run(["bash", f"slurm/{suite}.sh"], cwd=ROOT, env=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
