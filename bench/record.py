"""The writing side of a run's folder: append-only lines, atomic JSON, and what a kill leaves behind."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRIC_FILES = ("metrics.jsonl", "diagnostics.jsonl")


class LedgerError(ValueError):
    """A record cannot be read or written; the message names the file and what to do."""


class BusyError(LedgerError):
    """Another process works on the run."""


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically: a temporary name, synced, renamed."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # a full disk needs the room
        raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a torn last line, left by a kill, is dropped.

    Raises:
        LedgerError: a line before the last cannot be read.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise LedgerError(f"{path}, line {number} is damaged ({error}); delete it or run the row again") from error
    return rows


def make_folder(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
        LedgerError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission")
    except OSError as error:
        reason = error.strerror or error
        raise LedgerError(f"run folder {folder} cannot be written: {reason}; choose another runs=") from error
    return folder


def clear(folder: Path) -> None:
    """Forgets a run: removes everything from its folder but the lock and the log that may be in use.

    First what says how far it is, last what it is: interrupted, it is neither taken for finished nor for another run.
    """
    order = ("status.json", "files.json", "checkpoints")
    rest = [path.name for path in folder.iterdir() if path.name not in (".lock", "log.txt", "run.json", *order)]
    for path in (folder / name for name in (*order, *rest, "run.json")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def forced(word: str, folder: Path) -> bool:
    """Whether a run is to be begun anew: not where it was begun by this very word, as a requeued job's."""
    if word.lower() in ("1", "true"):
        return True
    try:
        begun_by = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]["force"]
    except (OSError, ValueError, KeyError, TypeError):
        begun_by = None
    return word.lower() not in ("", "0", "false") and word != begun_by


class Record:
    """The writing side of one run folder."""

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, info: dict[str, Any]) -> None:
        """What was asked: run.json."""
        if self.writes:
            write_json(self.folder / "run.json", info)

    def status(self, state: str, update: int, of: int, error: str | None = None) -> None:
        """State is running, finished, failed or preempted."""
        if self.writes:
            write_json(self.folder / "status.json", {"state": state, "update": update, "of": of, "error": error})

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Adds one line to `name`.jsonl; floats as their shortest exact decimals, non-finite ones as null.

        A line that the disk has no room for is not left in part: the next would be joined to it.
        """
        if not self.writes:
            return
        line = memoryview(json.dumps(_finite(row), sort_keys=True, allow_nan=False).encode() + b"\n")
        with (self.folder / f"{name}.jsonl").open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(before)
                raise

    def cut(self, sizes: Mapping[str, int]) -> None:
        """Drops what stands behind the first `sizes` bytes of each metric file, so that each update is logged once."""
        for path in (self.folder / name for name in METRIC_FILES):
            if self.writes and path.exists():
                os.truncate(path, sizes.get(path.name, 0))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
