"""From a cell of a table to its run, in the folder and in MLflow, and back; and the chart that compares two methods.

Read from the run folders alone, where `mlflow.json` says what the store calls a run: MLflow is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bench.experiments import PAIRS
from bench.ledger.runs import Run, load
from bench.ledger.scaled import AVERAGE, PROXY
from bench.record import LedgerError

PAGE = "http://127.0.0.1:5000"  # where `make ui` puts it, as `mlflow ui` does


@dataclass(frozen=True)
class Place:
    """Where a run is.

    Attributes:
        mlflow: MLflow's id of it, empty where it was never copied; with `experiment`, that of the experiment.
        uri: the store that it was copied to.
    """

    run: Run
    mlflow: str = ""
    experiment: str = ""
    uri: str = ""

    @property
    def run_id(self) -> str:
        """As the cells of a table have it."""
        return str(self.run.info.get("run_id", ""))

    def link(self, page: str) -> str:
        """The run's own page."""
        return f"{page}/#/experiments/{self.experiment}/runs/{self.mlflow}"

    def lines(self, page: str) -> list[str]:
        """What a person wants to know who looks for it."""
        copied = [f"mlflow  {self.mlflow} in {self.uri}", f"page    {self.link(page)}"]
        return [
            f"run     {self.run_id}, line {self.run.info.get('row')} of its table",
            f"folder  {self.run.path}",
            *(copied if self.mlflow else ["mlflow  not there: python -m bench.ledger reconcile copies it"]),
        ]


def places(runs: Path) -> list[Place]:
    """Every run below a folder, and where MLflow has it.

    Raises:
        LedgerError: the folder is not there, or a run.json cannot be read.
    """
    return [_place(run) for run in load(runs)]


def find(runs: Path, words: Sequence[str]) -> list[Place]:
    """The run of that id, as a table's cell or MLflow has it, or of that row; of that row and seed with two words.

    Raises:
        LedgerError: there is none.
    """
    there = places(runs)
    name, *seed = words
    found = [each for each in there if name in (each.run_id, each.run.info.get("row"), each.mlflow)]
    found = [each for each in found if not seed or seed == [str(each.run.info.get("seed"))]]
    if not found:
        known = ", ".join(each.run_id for each in there) or "none"
        raise LedgerError(f"no run {' seed '.join(words)} in {runs}; those there are: {known}")
    return found


def comparisons(runs: Path, page: str) -> Iterator[tuple[str, str]]:
    """For each method with a GRPO-Guard twin of the same task and seed: what they are, and the link to their chart."""
    copied = {(each.run.info.get("row"), each.run.info.get("seed")): each for each in places(runs) if each.mlflow}
    for base, guard in ((pair.base, pair.guard) for pair in PAIRS):
        for row, seed in copied:
            if row == guard.name and (base.name, seed) in copied:
                pair = (copied[base.name, seed], copied[row, seed])
                yield (
                    f"{base.method} and {guard.method} on {guard.backbone}, {guard.task}, seed {seed}",
                    chart(pair, page),
                )


def chart(compared: Sequence[Place], page: str, keys: Sequence[str] = (PROXY, AVERAGE)) -> str:
    """MLflow 3's page of several metrics of several runs, with updates on the x axis; its default is elapsed time."""
    asked = {
        "runs": [each.mlflow for each in compared],
        "metric": keys[0],
        "experiments": sorted({each.experiment for each in compared}),
        "plot_metric_keys": list(keys),
    }
    words = [f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in asked.items()]
    return f"{page}/#/metric?{'&'.join(words)}&x_axis=step"


def _place(run: Run) -> Place:
    try:
        mark = json.loads((run.path / "mlflow.json").read_text(encoding="utf-8"))
        return Place(run, mark["run_id"], mark["experiment"], mark["uri"])
    except (OSError, ValueError, KeyError, TypeError):
        return Place(run)
