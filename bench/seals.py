"""Hashes of what a run has finished writing, kept in its `files.json`, so that damage is noticed before it is used.

A JSON file that says what others are carries a hash of itself (`write_signed`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.record import LedgerError, write_json

FILES = "files.json"
SELF = "sha256_of_this"


class DamageError(LedgerError):
    """A file is not what was written; the message names it."""


def digest(path: Path, size: int | None = None) -> dict[str, Any]:
    """`bytes` and `sha256` of a file, or of its first `size` bytes."""
    data, left = hashlib.sha256(), path.stat().st_size if size is None else size
    found = 0
    with path.open("rb") as file:
        while block := file.read(min(2**20, left - found)):
            data.update(block)
            found += len(block)
    return {"bytes": found, "sha256": data.hexdigest()}


def write_signed(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON atomically, with a hash of itself."""
    write_json(path, value | {SELF: _signature(value)})


def read_signed(path: Path) -> dict[str, Any]:
    """What `write_signed` wrote.

    Raises:
        DamageError: it is not what was written.
        OSError: it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        signature = value.pop(SELF)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamageError(f"{path} is damaged: {type(error).__name__}") from error
    if signature != _signature(value):
        raise DamageError(f"{path} is damaged: its hash is not the one that was written")
    return dict(value)


def _signature(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk for good."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(folder: Path, *paths: Path) -> None:
    """Notes the hashes of files of the run in `folder` as they are now, on the disk for good."""
    for path in [*paths, *dict.fromkeys(path.parent for path in paths)]:
        sync(path)
    _note(folder, {path: [digest(path)] for path in paths})


def replace(folder: Path, path: Path, write: Callable[[Path], None]) -> None:
    """Puts what `write` writes in the place of `path`; interrupted at any moment, a seal fits what stands there."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    sync(partial)
    old, new = [digest(path)] if path.exists() else [], digest(partial)
    _note(folder, {path: [*old, new]})
    partial.replace(path)
    _note(folder, {path: [new]})


def forget(folder: Path, unwanted: Callable[[str], bool]) -> None:
    """Drops the seals of files that are about to be written anew, by their paths within the run's folder."""
    known = _read(folder)
    if any(unwanted(name) for name in known):
        write_signed(folder / FILES, {name: seals for name, seals in known.items() if not unwanted(name)})


def check(folder: Path, path: Path) -> None:
    """Whether a file is what was sealed. What was never sealed passes.

    A record of lines (`.jsonl`) may have grown since: its sealed beginning has to be there.

    Raises:
        DamageError: it is not.
    """
    fault = _fault(path, _read(folder).get(path.relative_to(folder).as_posix(), []))
    if fault:
        raise DamageError(f"{path} {fault}; run the row again with FORCE=1, or bring the file back")


def damaged(folder: Path) -> dict[str, str]:
    """Sealed files of a run that are not what was written: path within the folder, and what is wrong."""
    try:
        known = _read(folder)
    except DamageError as error:
        return {FILES: str(error)}
    faults = {name: _fault(folder / name, seals) for name, seals in known.items()}
    return {name: fault for name, fault in faults.items() if fault}


def _fault(path: Path, seals: list[dict[str, Any]]) -> str:
    try:
        grows = path.suffix == ".jsonl" and path.name != "manifest.jsonl"
        if not seals or any(digest(path, each["bytes"] if grows else None) == each for each in seals):
            return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "is not what was written: its sha256 differs"


def _read(folder: Path) -> dict[str, Any]:
    return read_signed(folder / FILES) if (folder / FILES).exists() else {}


def _note(folder: Path, new: dict[Path, list[dict[str, Any]]]) -> None:
    named = {path.relative_to(folder).as_posix(): seals for path, seals in new.items()}
    write_signed(folder / FILES, _read(folder) | named)
