"""What a run painted for some prompts, evaluation by evaluation: from its images, or from one strip of them all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench import seals
from bench.record import read_lines, write_json

STRIP, INDEX = "pictures.png", "pictures.json"
SHOWN = 8  # prompts of a strip; our choice: a screen's height of them


@dataclass(frozen=True)
class Picture:
    """What a run painted for a prompt at an evaluation: its member 0 of the gold set."""

    update: int
    prompt_id: str
    prompt: str
    image: Image.Image


def chosen(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of an image set's manifest, member 0 of `SHOWN` prompts from first to last."""
    first = [entry for entry in entries if entry["seed"] == 0]
    at = np.linspace(0, len(first) - 1, min(SHOWN, len(first))).round().astype(int)
    return [first[i] for i in at]


def painted(run: Path) -> list[Picture]:
    """The chosen pictures of a run folder, evaluation by evaluation.

    Raises:
        LedgerError: a manifest is not what was written.
        OSError: a picture cannot be read.
    """
    found = []
    for images in sorted((run / "images").glob("update-*")):
        seals.check(run, images / "manifest.jsonl")
        for entry in chosen(read_lines(images / "manifest.jsonl")):
            with Image.open(images / entry["file"]) as file:
                image = file.convert("RGB")
            update = int(images.name.removeprefix("update-"))
            found.append(Picture(update, entry["prompt_id"], entry["prompt"], image))
    return found


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Puts pictures of one size into the strip of `folder`: prompts in rows, evaluations in columns."""
    updates = list(dict.fromkeys(picture.update for picture in pictures))
    prompts = dict.fromkeys((picture.prompt_id, picture.prompt) for picture in pictures)
    rows = {prompt_id: i for i, (prompt_id, _) in enumerate(prompts)}
    width, height = pictures[0].image.size
    strip = Image.new("RGB", (width * len(updates), height * len(rows)))
    for picture in pictures:
        strip.paste(picture.image, (width * updates.index(picture.update), height * rows[picture.prompt_id]))
    strip.save(folder / STRIP, optimize=True)
    index = {"updates": updates, "prompts": [list(each) for each in prompts], "width": width, "height": height}
    write_json(folder / INDEX, index)


def read(folder: Path) -> list[Picture]:
    """The pictures of a cell, evaluation by evaluation; none where it keeps none.

    Raises:
        LedgerError: a file is not what was written.
    """
    if not (folder / STRIP).exists():
        return []
    for name in (STRIP, INDEX):
        seals.check(folder, folder / name)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    width, height = index["width"], index["height"]
    with Image.open(folder / STRIP) as file:
        strip = file.convert("RGB")
    return [
        Picture(update, prompt_id, prompt, strip.crop((x * width, y * height, (x + 1) * width, (y + 1) * height)))
        for x, update in enumerate(index["updates"])
        for y, (prompt_id, prompt) in enumerate(index["prompts"])
    ]
