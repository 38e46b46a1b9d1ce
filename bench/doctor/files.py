"""Weights, prompts, and the disk that a run writes to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import hub, prompts, room, space
from bench.architectures import ArchitectureError
from bench.config import Backbone, Config, folder_of
from bench.costs import plan
from bench.doctor.finding import Finding, failed, ok, warning
from bench.experiments import find_row
from bench.prompt_sets import SETS

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


def weights(backbone: Backbone, name: str, runs: Path) -> Finding:
    """Whether the pipeline is here, whole, and the one that earlier runs were made with. Nothing is downloaded."""
    where = backbone.weights
    folder = hub.snapshot(where)
    if folder is None:
        return failed(f"{where} is not on this machine", _how_to_get(where))
    lacking = list(_lacking(folder))
    if lacking:
        return failed(f"{folder} lacks {', '.join(lacking[:3])}", _how_to_get(where))
    found = hub.fingerprint(where)
    other = next((path for path, made in _made_with(runs, name) if made != found), None)
    if other:
        return failed(f"{folder} ({found}) are other weights than {other} was made with", "choose another runs=")
    return ok(f"{folder} ({found})")


def _how_to_get(where: str) -> str:
    if Path(where).is_absolute():
        return "name a pipeline's folder or a repository of the hub as the backbone's weights"
    token = "HF_TOKEN is set" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
    gate = f"accept the {hub.LICENCES[where]} at https://huggingface.co/{where}, " if where in hub.LICENCES else ""
    return f"{gate}`hf download {where}` ({token})"


def _lacking(folder: Path) -> Iterator[str]:
    """Files that the pipeline's own index names and that are not there."""
    try:
        listed = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield "a model_index.json that can be read"
        return
    for part, kind in listed.items():
        if isinstance(kind, list) and kind[0] and not any((folder / part).glob("*")):
            yield part
    for index in folder.glob("*/*.index.json"):
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        yield from (f"{index.parent.name}/{shard}" for shard in sorted(shards) if not (index.parent / shard).exists())


def _made_with(runs: Path, backbone: str) -> Iterator[tuple[Path, str]]:
    """Folder and hash of weights of each run on a backbone."""
    for path in sorted(runs.glob("*/seed*/run.json")):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            if info["backbone"] == backbone and info["weights"] == "published":
                yield path.parent, info["hashes"]["weights"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # `bench.status` shows a damaged record


def prompt_file(path: Path) -> Finding:
    """Whether the file can be read, and has as many prompts as the public set that it is named after."""
    listed = prompts.load(path, repeats=True)
    name, _, split = path.stem.rpartition("_")
    known = SETS[name].files.get(split) if name in SETS else None
    text = f"{path}: {len(listed)} prompts ({prompts.fingerprint(listed)})"
    if known and known.lines not in (None, len(listed)):
        return failed(f"{text}, and the public set has {known.lines}", f"`python -m bench.prompts get {name}`")
    return ok(text)


def disk(rows: Sequence[Config]) -> Finding:
    """Whether all that the rows have yet to write fits, prompt embeddings included."""
    runs = Path(rows[0].runs)
    needed, free = sum(_left(settings) for settings in rows) + _embeddings(rows), space.free(runs)
    text = f"{len(rows)} rows write {space.size(needed)} more, {space.size(free)} are free at {space.mount(runs)}"
    if needed > free:
        return failed(text, "make room, choose another runs=, or set the backbone's embeddings=null")
    return ok(text)


def _left(settings: Config) -> int:
    row = find_row(settings.row)
    try:
        return room.left(settings, row, plan(settings).trainable, folder_of(settings, row))
    except ArchitectureError:
        return 0


def _embeddings(rows: Sequence[Config]) -> int:
    """Of the row of each backbone that asks for most, for the others share them, less what is there."""
    most: dict[str, int] = {}
    for settings in rows:
        folder = settings.backbones[find_row(settings.row).backbone].embeddings
        if folder:
            most[folder] = max(most.get(folder, 0), plan(settings).shared_embeddings)
    return sum(max(0, planned - space.used(Path(folder))) for folder, planned in most.items())


def writing(runs: Path) -> Finding:
    """Whether files can be written, synced, renamed and locked where the runs go."""
    at = space.existing(runs)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=at) as made:
            _write(Path(made))
            locks = _locks(Path(made))
    except OSError as error:
        return failed(f"{at} cannot be written: {error.strerror or error}", "choose another runs=")
    if not locks:
        text = f"{at} can be written, but file locks do not work, which prompt embeddings and the MLflow copy take"
        return warning(text, "mount it with -o flock if it is Lustre, or let one run begin before the others")
    return ok(f"{at} can be written, synced, renamed and locked")


def _write(folder: Path) -> None:
    partial, target = folder / "written.partial", folder / "written"
    target.write_bytes(b"before")
    with partial.open("wb") as file:
        file.write(b"after")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    if target.read_bytes() != b"after":
        raise OSError("what was renamed onto a file is not what is read from it")


def _locks(folder: Path) -> bool:
    """Whether a lock keeps a second one out."""
    path = folder / "locked"
    with path.open("w") as one, path.open("w") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            raise
    return False
