"""An image set: a folder of PNGs and a manifest that says what each was meant to show."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from gold_metrics.scorer import Entry, Picture

MANIFEST = "manifest.jsonl"
FIELDS = {"file": str, "sha256": str, "prompt_id": str, "prompt": str, "seed": int}
# Our choice: pictures beyond this many bytes are read anew whenever they are asked for, so that a set may be larger
# than memory.
KEPT = 2**30
# Our choice: pictures compressed at once. One of 512 pixels takes a core 0.04 s, thousands of them minutes, and GPUs
# wait; Pillow compresses outside of Python's lock.
WRITERS = 8
NEEDED = f"{MANIFEST} holds one JSON object per image with file, sha256, prompt_id, prompt, seed and target (or null)"


class ImageSetError(ValueError):
    """The folder is not an image set; the message says what was wanted and what was found."""


class Files(Sequence[Picture | None]):
    """Pictures on disk, the first of them kept in memory; None where one could not be read."""

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        self._folder, self._entries = folder, tuple(entries)
        self._kept: dict[int, Picture] = {}
        size, faults = 0, []
        for index, entry in enumerate(entries):
            image, fault = _read_image(folder, entry)
            size += 0 if image is None else image.nbytes
            if image is not None and size <= KEPT:
                self._kept[index] = image
            faults.append(fault)
        self.faults = tuple(faults)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if self.faults[index] or index in self._kept:
            return self._kept.get(index)
        return _read_image(self._folder, self._entries[index])[0]


@dataclass(frozen=True)
class ImageSet:
    """N images and what the manifest says about them.

    Attributes:
        images: uint8 (height, width, 3) each; None where the file could not be had.
        entries: the manifest's lines, in its order.
        faults: why an image is None, naming its path; empty for the others.
    """

    images: Sequence[Picture | None]
    entries: tuple[Entry, ...]
    faults: tuple[str, ...]


def write(folder: Path | str, images: Sequence[Picture], entries: Sequence[Entry]) -> ImageSet:
    """Write N pictures with their entries; a set that stands there already is replaced whole.

    The entries' `sha256` is filled in from the written bytes. The set is complete or absent: it is made beside
    `folder` and then takes its place.

    Raises:
        ImageSetError: no images, another number of entries than images, or a file name that leaves the folder.
    """
    folder = Path(folder)
    if not images or len(images) != len(entries):
        found = f"{len(images)} images and {len(entries)} entries"
        raise ImageSetError(f"{folder}: an image set needs at least one image and an entry for each, found {found}")
    making = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    making.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            written = list(pool.map(partial(_write_one, making), images, entries))
        lines = (json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n" for entry in written)
        (making / MANIFEST).write_text("".join(lines), encoding="utf-8")
        _replace(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return ImageSet(tuple(images), tuple(written), ("",) * len(written))


def _write_one(folder: Path, image: Picture, entry: Entry) -> Entry:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    path = _inside(folder, entry.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    return dataclasses.replace(entry, sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def _replace(made: Path, folder: Path) -> None:
    # A folder cannot be renamed onto one that holds files, so the old one steps aside first.
    aside = made.with_name(made.name + ".old")
    if folder.exists():
        folder.replace(aside)
    made.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)


def read(folder: Path | str) -> ImageSet:
    """Read an image set. An image that is missing, broken or changed becomes None with its fault.

    Raises:
        ImageSetError: no folder, no manifest, an empty manifest, a line that cannot be understood (named), a file
            outside of the folder or listed twice.
    """
    folder = Path(folder)
    entries = _read_manifest(folder)
    files = Files(folder, entries)
    return ImageSet(files, tuple(entries), files.faults)


def changed(folder: Path | str) -> list[str]:
    """The files of an image set that are not what its manifest lists, by their hashes alone.

    Raises:
        ImageSetError: as `read`.
    """
    return [entry.file for entry in _read_manifest(Path(folder)) if _sha256(Path(folder) / entry.file) != entry.sha256]


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _read_manifest(folder: Path) -> list[Entry]:
    if not folder.is_dir():
        raise ImageSetError(f"{folder}: no such folder; an image set is a folder of PNGs with a {MANIFEST}")
    path = folder / MANIFEST
    if not path.is_file():
        count = len(list(folder.glob("*.png")))
        raise ImageSetError(f"{folder}: {count} PNGs but no {MANIFEST}; {NEEDED}")
    lines = path.read_bytes().splitlines()
    entries = [_entry(folder, line, f"{path} line {number}") for number, line in enumerate(lines, 1)]
    if not entries:
        raise ImageSetError(f"{path} is empty; {NEEDED}")
    files = [entry.file for entry in entries]
    twice = next((file for file in files if files.count(file) > 1), None) if len(set(files)) < len(files) else None
    if twice is not None:
        raise ImageSetError(f"{path}: {twice} is listed twice; list each image once")
    return entries


def _entry(folder: Path, line: bytes, where: str) -> Entry:
    try:
        fields: Any = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise ImageSetError(f"{where} is not JSON in UTF-8 ({error}); {NEEDED}") from None
    if not isinstance(fields, dict):
        raise ImageSetError(f"{where} is not a JSON object; {NEEDED}")
    for name, kind in FIELDS.items():
        if type(fields.get(name)) is not kind:
            raise ImageSetError(f"{where}: {name} should be {kind.__name__}, found {fields.get(name)!r}; {NEEDED}")
    target = fields.get("target")
    if target is not None and not isinstance(target, dict):
        raise ImageSetError(f"{where}: target should be an object or null, found {target!r}")
    _inside(folder, fields["file"])
    return Entry(**{name: fields[name] for name in FIELDS}, target=target)


def _inside(folder: Path, file: str) -> Path:
    root = folder.resolve()
    path = (root / file).resolve()
    if not path.is_relative_to(root) or path in (root, root / MANIFEST):
        raise ImageSetError(f"{folder}: {file!r} is not a file inside the image set")
    return path


def _read_image(folder: Path, entry: Entry) -> tuple[Picture | None, str]:
    path = folder / entry.file
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, f"{path}: {error.strerror}"
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        return None, f"{path}: not the file that the manifest lists (its sha256 differs)"
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(("I", "F")):
                return None, f"{path}: more than 8 bits a channel (mode {image.mode}); save it with 8"
            return np.asarray(image.convert("RGB")), ""
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, f"{path}: not an image that can be read ({error})"
