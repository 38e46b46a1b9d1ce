"""`python -m gold_metrics describe FOLDER --prompts FILE`: makes an image set of a folder of images."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gold_metrics.image_set import MANIFEST, ImageSetError
from gold_metrics.scorer import Entry

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
EPILOG = """FILE is either text, one prompt a line, for the images in the order of their names (2.png before 10.png), or
JSON lines with "file" and "prompt" and, if known, "seed" (default 0) and "target"."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the manifest; 2 and one line if the folder and the prompts do not fit together."""
    parser = argparse.ArgumentParser(prog="python -m gold_metrics describe", description=__doc__, epilog=EPILOG)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"images: {', '.join(SUFFIXES)}")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="what each image was made from")
    args = parser.parse_args(arguments)
    try:
        entries = describe(args.folder, args.prompts)
        lines = (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
        (args.folder / MANIFEST).write_text("".join(lines), encoding="utf-8")
    except (ImageSetError, OSError) as error:
        print(f"gold_metrics describe: {error}", file=sys.stderr)
        return 2
    print(f"{args.folder / MANIFEST}: {len(entries)} images, {len({entry.prompt_id for entry in entries})} prompts")
    return 0


def describe(folder: Path, prompts: Path) -> list[Entry]:
    """The entries of a folder's images, in the order of their names.

    Raises:
        ImageSetError: no images, or another number of prompts, or a prompt for an image that is not there.
    """
    images = sorted((path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES), key=_natural)
    if not images:
        raise ImageSetError(f"{folder}: no image is there; wanted files that end in {', '.join(SUFFIXES)}")
    try:
        lines = prompts.read_text(encoding="utf-8").strip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ImageSetError(f"{prompts} is not UTF-8: {error}") from None
    asked = _by_file(lines, prompts) if prompts.suffix == ".jsonl" else _by_order(lines, images, folder, prompts)
    names = [str(path.relative_to(folder)) for path in images]
    if set(names) != set(asked):
        odd = sorted(set(names) ^ set(asked))[0]
        wrong = "an image without a prompt" if odd in names else "a prompt without an image"
        raise ImageSetError(
            f"{folder} has {len(names)} images and {prompts} {len(asked)} prompts; the first {wrong}: {odd}"
        )
    return [_entry(path, name, asked[name]) for path, name in zip(images, names, strict=True)]


def _natural(path: Path) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _by_order(lines: list[str], images: list[Path], folder: Path, prompts: Path) -> dict[str, dict[str, Any]]:
    if len(lines) != len(images):
        raise ImageSetError(f"{folder} has {len(images)} images and {prompts} {len(lines)} lines: wanted one for each")
    empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if empty:
        raise ImageSetError(f"{prompts} line {empty} is empty; wanted the prompt of {images[empty - 1]}")
    return {str(p.relative_to(folder)): {"prompt": line.strip()} for p, line in zip(images, lines, strict=True)}


def _by_file(lines: list[str], prompts: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            if not (isinstance(fields["prompt"], str) and isinstance(fields.get("seed", 0), int)):
                raise TypeError
            found[str(fields["file"])] = fields
        except (ValueError, KeyError, TypeError):
            wanted = 'an object with "file" and "prompt" and, if known, a whole "seed" and a "target"'
            raise ImageSetError(f"{prompts} line {number}: wanted {wanted}, found {line[:60]}") from None
    return found


def _entry(path: Path, name: str, asked: dict[str, Any]) -> Entry:
    prompt = asked["prompt"]
    return Entry(
        file=name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        prompt_id=hashlib.sha256(prompt.encode()).hexdigest()[:12],
        prompt=prompt,
        seed=asked.get("seed", 0),
        target=asked.get("target"),
    )
