"""The record of runs: append-only files in each run's folder, mirrored to MLflow. The only file that imports mlflow.

A run folder is the truth; MLflow is a copy that can be made again. Files of a run:

    run.json           what was asked and with what it was made; the same for the same request, byte for byte
    status.json        state, update, planned updates, error
    metrics.jsonl      a line per update: {"update": 12, "epoch": 6, "proxy/reward": ..., ...}
    diagnostics.jsonl  a line per optimiser update: log ratios, clipping and gradient norms per trained step
    times.jsonl        a line per epoch: seconds, host; the only file that differs between equal runs
    scores/            a parquet file per evaluation, a row per image and scorer
    images/            an image set per evaluation
    scores/PROXY/, images/PROXY/   the same of a proxy that is scored on prompts of its own
    lora/              the trained adapter, loadable by diffusers
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.record import METRIC_FILES, LedgerError, read_lines, write_json

__all__ = ["LedgerError", "Run", "flatten", "load", "mirror", "points", "read"]

EXPERIMENT = "grpo-guard-bench"
SECTIONS = {"log_ratio_mean": "ratio/mean", "log_ratio_std": "ratio/std", "grad_norm": "grad/step"}
BATCH = 1000  # MLflow's limit of metrics in one log_batch call
# MLflow accepts these characters in a metric's name (mlflow/utils/validation.py).
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class Run:
    """One run, read from its folder; nothing is cached."""

    path: Path
    info: dict[str, Any]
    status: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run came to its planned end."""
        return self.status.get("state") == "finished"

    @property
    def settings(self) -> dict[str, Any]:
        """The composed configuration, flat: "optim.rate" and the like."""
        return flatten(self.info["config"])

    def metrics(self) -> pd.DataFrame:
        """A row per update that logged anything, sorted by update, columns as logged."""
        rows = read_lines(self.path / "metrics.jsonl")
        return pd.DataFrame(rows, columns=None if rows else ["update", "epoch"])

    def diagnostics(self) -> pd.DataFrame:
        """A row per (update, trained step): every list of a line is spread over the steps."""
        rows = []
        for line in read_lines(self.path / "diagnostics.jsonl"):
            lists = {k: v for k, v in line.items() if isinstance(v, list)}
            single = {k: v for k, v in line.items() if k not in lists}
            lists["step"] = lists.pop("steps")
            rows += [single | dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        return pd.DataFrame(rows)

    def scores(self) -> pd.DataFrame:
        """Every evaluation's scores: a row per image (or set) and scorer, with the columns `update` and `own`.

        `own` is the proxy whose own prompts were scored; empty for the gold set.
        """
        root, parts = self.path / "scores", []
        for path in sorted(root.rglob("update-*.parquet")):
            update, own = int(path.stem.removeprefix("update-")), "" if path.parent == root else path.parent.name
            parts.append(pd.read_parquet(path).assign(update=update, own=own))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def load(root: Path) -> list[Run]:
    """Every run `root`/ROW/seedN, in the order of their paths.

    Raises:
        LedgerError: `root` is not there, or a run's run.json or status.json cannot be read.
    """
    if not root.is_dir():
        raise LedgerError(f"no folder of runs at {root}; train some first: make table1")
    return [read(path.parent) for path in sorted(root.glob("*/seed*/run.json"))]


def read(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        LedgerError: run.json or status.json cannot be read.
    """
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        status_file = folder / "status.json"
        status = json.loads(status_file.read_text(encoding="utf-8")) if status_file.exists() else {}
    except (OSError, ValueError) as error:
        raise LedgerError(f"the record in {folder} cannot be read ({error}); run the row again with FORCE=1") from error
    return Run(folder, info, status)


def points(run: Run, seen: Mapping[str, int] | None = None) -> Iterable[tuple[str, float, int]]:
    """What the mirror shows of a run: (name, value, update) of every logged number and the per-step diagnostics.

    `seen` says how many lines of each file to leave out.
    """
    skip = dict.fromkeys(METRIC_FILES, 0) | dict(seen or {})
    for row in read_lines(run.path / "metrics.jsonl")[skip["metrics.jsonl"] :]:
        for name, value in row.items():
            if name not in ("update", "epoch") and value is not None:
                yield _FORBIDDEN.sub("_", name), float(value), int(row["update"])
    for row in read_lines(run.path / "diagnostics.jsonl")[skip["diagnostics.jsonl"] :]:
        half = "off_policy" if row["inner"] else "on_policy"
        for i, step in enumerate(row["steps"]):
            for key, section in SECTIONS.items():
                if row[key][i] is not None:
                    yield f"{section}/{half}/{step:02d}", float(row[key][i]), int(row["update"])


def mirror(run: Run, uri: str) -> str:
    """Brings the MLflow store at `uri` up to date with a run; returns MLflow's run id.

    Runs are flat and tagged, for nested ones hide the charts. Values go in batches, once each: `mlflow.json` in the
    run folder says how many lines of each file are there. A resumed run logs its lines again in the same order, so
    none is missed. Delete that file to mirror a run anew.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow.entities import Metric

    mark_file = run.path / "mlflow.json"
    mark = json.loads(mark_file.read_text()) if mark_file.exists() else {}
    client = _client(run.path.parent.parent, uri)
    if mark.get("uri") != uri:
        mark = {"uri": uri, "run_id": _create(client, run), "lines": dict.fromkeys(METRIC_FILES, 0)}
    lines = {name: len(read_lines(run.path / name)) for name in METRIC_FILES}
    new = [Metric(name, value, 0, update) for name, value, update in points(run, mark["lines"])]
    for start in range(0, len(new), BATCH):
        client.log_batch(mark["run_id"], metrics=new[start : start + BATCH])
    ended = {"finished": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}.get(run.status.get("state", ""))
    if ended:
        client.set_terminated(mark["run_id"], ended)
    write_json(mark_file, mark | {"lines": {name: max(lines[name], mark["lines"][name]) for name in METRIC_FILES}})
    return str(mark["run_id"])


def _client(root: Path, uri: str) -> Any:
    from filelock import FileLock
    from mlflow.tracking import MlflowClient

    with FileLock(root / ".mlflow.lock"):  # two first calls at once break a new sqlite store for good
        client = MlflowClient(tracking_uri=uri)
        if client.get_experiment_by_name(EXPERIMENT) is None:
            client.create_experiment(
                EXPERIMENT,
                artifact_location=(root / "mlartifacts").resolve().as_uri(),
                tags={"mlflow.experimentKind": "custom_model_development"},
            )
    return client


def _create(client: Any, run: Run) -> str:
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    tags = {k: str(run.info[k]) for k in ("run_id", "row", "method", "backbone", "task", "seed", "scale", "suite")}
    tags |= {k: str(run.info[k]) for k in ("protocol", "weights") if k in run.info}
    tags["folder"] = str(run.path)
    made = client.create_run(experiment, run_name=f"{run.info['row']} seed {run.info['seed']}", tags=tags).info.run_id
    client.log_batch(made, params=[Param(k, str(v)) for k, v in run.info["recipe"].items()])
    client.log_dict(made, run.info, "run.json")
    return str(made)
