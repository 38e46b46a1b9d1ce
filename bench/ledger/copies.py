"""Which lines of a record MLflow has, and which it lacks: the copy of a run, brought up to date or made anew."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.ledger import shown
from bench.ledger.runs import Run, points
from bench.ledger.store import Store
from bench.lock import owner
from bench.record import METRIC_FILES, LedgerError, write_json

STATES = {"finished": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}
PATIENCE = 600.0  # seconds that a run waits while it is imported; our choice: a long run's import takes a tenth of it


@dataclass(frozen=True)
class Copy:
    """A run as MLflow has it: how many points were sent for it just now, how many values of its record never were."""

    run_id: str
    status: str
    points: int
    not_finite: int


def mirror(run: Run, uri: str) -> str:
    """Brings the MLflow store at `uri` up to date with a run; returns MLflow's run id.

    Raises:
        StoreError, LedgerError: the store cannot be used, or the record is damaged.
    """
    return copy(run, Store(uri, run.path.parent.parent)).run_id


def copy(run: Run, store: Store, anew: bool = False) -> Copy:
    """Brings a store up to date with a run; `anew` replaces what is there.

    Each point is there once. `mlflow.json` in the run folder says how many lines of each file were sent, and what they
    hashed to: a record that was cut and came out otherwise is copied anew. After an interruption the lines that may be
    there are sent again, which changes nothing: MLflow keeps one of two equal points.

    Raises:
        StoreError, LedgerError: the store cannot be used, or the record is damaged; then the earlier copy stays.
    """
    with FileLock(run.path / ".mlflow.lock", timeout=PATIENCE):
        mark_file = run.path / "mlflow.json"
        mark = {} if anew else _read(mark_file)
        if not _is_copy_of(run, mark, store.uri):
            mark = {"uri": store.uri, "lines": dict.fromkeys(METRIC_FILES, 0), "shown": ["", 0], "files": {}}
        now = {name: _beginning(run.path / name) for name in METRIC_FILES}
        found = list(points(run, mark["lines"]))
        new = [(name, value, update) for name, value, update in found if value is not None]
        mark["run_id"] = mark.get("run_id") or store.replace(run)
        mark["experiment"] = store.experiment
        mark["sent"] = {name: max(now[name], mark.get("sent", now)[name]) for name in now}
        write_json(mark_file, mark)
        made = Copy(mark["run_id"], state_of(run), len(new), mark["shown"][1] + len(found) - len(new))
        store.log(made.run_id, new)
        if (state := [made.status, made.not_finite]) != mark["shown"]:  # two writes less of a shared store
            store.show(run, made.run_id, made.status, {"not_finite": str(made.not_finite)})
        lines = {name: count for name, (count, _) in mark["sent"].items()}
        files = _attach(run, store, made.run_id, mark["files"])
        write_json(mark_file, mark | {"lines": lines, "shown": state, "files": files})
    return made


def _attach(run: Run, store: Store, run_id: str, sent: Mapping[str, str]) -> dict[str, str]:
    """Copies the files that are not there as they are now, and with a new manifest its pictures; their hashes."""
    files = shown.files(run)
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    store.attach(run_id, {name: path for name, path in files.items() if hashes[name] != sent.get(name)})
    manifest = files.get(shown.MANIFEST)
    if manifest and hashes[shown.MANIFEST] != sent.get(shown.MANIFEST):
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / Path(shown.SHEET).name
            _draw(manifest.parent, made)
            store.attach(run_id, {shown.SHEET: made})
    return hashes


def _draw(images: Path, path: Path) -> None:
    try:
        shown.sheet(images).save(path)
    except (OSError, ValueError, KeyError) as error:
        raise LedgerError(
            f"{images}: its pictures cannot be shown ({error!r}); run the row again with FORCE=1"
        ) from error


def state_of(run: Run) -> str:
    """What MLflow calls the run's state; one that says it is running and whose process is gone was killed."""
    found = owner(run.path)
    return STATES.get(run.status.get("state", ""), "RUNNING" if found and found.alive else "KILLED")


def _read(mark_file: Path) -> dict[str, Any]:
    """What was sent; nothing where that cannot be told, as from the mark of an earlier version."""
    try:
        mark = json.loads(mark_file.read_text(encoding="utf-8"))
        return mark if {"uri", "run_id", "lines", "sent", "shown", "files"} <= mark.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_copy_of(run: Run, mark: dict[str, Any], uri: str) -> bool:
    """Whether what was sent is the beginning of the record; of one that is shorter it is not known yet."""
    if mark.get("uri") != uri:
        return False
    found = {name: _beginning(run.path / name, lines) for name, (lines, _) in mark["sent"].items()}
    return all(found[name][0] < sent[0] or found[name] == sent for name, sent in mark["sent"].items())


def _beginning(path: Path, lines: int | None = None) -> list[Any]:
    """How many whole lines the file has, up to `lines`, and their hash."""
    content = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in content if line.endswith(b"\n")][:lines]
    return [len(whole), hashlib.sha256(b"".join(whole)).hexdigest()]
