"""The public prompt sets of the full-size tasks: where each file lies, what it must hash to, and how it is made ours.

    python -m bench.prompts list
    python -m bench.prompts get NAME [--from FILE ...] [--to FOLDER]

No copies are shipped. A file is the one of a pinned commit or it is refused; one that was had elsewhere is taken with
`--from`. What is written is `FOLDER/NAME_SPLIT.jsonl`, line by line, with GenEval's metadata as its target.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.prompts import PromptError

# flow_grpo at 879042c (2026-05-07); its dataset/ holds every set that the published configurations name.
SOURCE = "https://raw.githubusercontent.com/yifan123/flow_grpo/879042cf5707f8b90daa98d147d7deac2317c5da/dataset/"

TIMEOUT = 60.0  # seconds without a byte, our choice


@dataclass(frozen=True)
class PromptFile:
    """One file of the source.

    Attributes:
        path: below `SOURCE`.
        sha256: of its bytes; empty where the file was not at hand.
        lines, different: how many prompts it lists, repetitions counted and, where there are any, without.
        blob: its git object id at the pinned commit, which decides where there is no sha256.
    """

    path: str
    sha256: str = ""
    lines: int | None = None
    blob: str = ""
    different: int | None = None

    @property
    def identity(self) -> str:
        """What it is known by, shortened."""
        return f"sha256 {self.sha256[:12]}" if self.sha256 else f"git object {self.blob[:12]}"

    def is_of(self, content: bytes) -> bool:
        """Whether the bytes are this file's."""
        if self.sha256:
            return hashlib.sha256(content).hexdigest() == self.sha256
        head = f"blob {len(content)}\0".encode()
        return hashlib.sha1(head + content, usedforsecurity=False).hexdigest() == self.blob


@dataclass(frozen=True)
class PromptSet:
    """A set's files by split, and what is known of their licence."""

    licence: str
    files: dict[str, PromptFile]


SETS = {
    "pickscore": PromptSet(
        "Pick-a-Pic v1, see huggingface.co/datasets/yuvalkirstain/pickapic_v1; some are not safe for work",
        {
            "train": PromptFile(
                "pickscore/train.txt",
                "2f425adcbb9a6d0feee7c6c448e1cb83a1f71deca9434b803907e2578eca837f",
                25432,
            ),
            "test": PromptFile(
                "pickscore/test.txt",
                "d75c025fa451866e70f7e36243f7cdd93095523cb51f5f9651f2ce3236d20262",
                2048,
            ),
        },
    ),
    "pickscore_sfw": PromptSet(
        "Pick-a-Pic v1 filtered, see huggingface.co/datasets/CarperAI/pickapic_v1_no_images_training_sfw",
        {
            "train": PromptFile(
                "pickscore_sfw/train.txt",
                "edb46f78d7d93df0bafb30568074463822312ee339200f627195ccb2ff1d2f7a",
                15486,
            ),
            "test": PromptFile(
                "pickscore_sfw/test.txt",
                "d839050acb06aa045e399e76a81e4ade9a55fc743dc0e22e7b3eaeaca5c19107",
                1024,
            ),
        },
    ),
    "ocr": PromptSet(
        "MIT (flow_grpo)",
        {
            "train": PromptFile("ocr/train.txt", blob="3ce0521b77b0a9031191d66ecc36ebaaf27a3922"),
            "test": PromptFile(
                "ocr/test.txt",
                "4dd8caf3ab6ade73bd376c7d14c6ca49b6eacfb1bd321e22c40714ae4a98d4dc",
                1018,
            ),
        },
    ),
    "geneval": PromptSet(
        "MIT (GenEval; the training part flow_grpo)",
        {
            "train": PromptFile("geneval/train_metadata.jsonl", blob="0b97e8a6802c08fc7537cd00c76ae79c851bddcb"),
            "test": PromptFile(
                "geneval/test_metadata.jsonl",
                "cec4b24b9fee7bac21c8f787054ecc8dc9ff831674037713a4cd35e0f0a74a28",
                2212,
                different=553,
            ),
        },
    ),
    "drawbench": PromptSet(
        "DrawBench of Imagen (Saharia et al. 2022), no licence stated; its train file is one line and left out",
        {
            "test": PromptFile(
                "drawbench/test.txt",
                "9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0",
                1000,
                different=200,
            )
        },
    ),
}
"""The sets by name; the tasks of scale=paper train on geneval, pickscore and ocr."""


def get(name: str, folder: Path, given: Sequence[Path] = ()) -> list[tuple[Path, int, int]]:
    """Writes the set's splits, downloaded, or those of them that are `given`.

    Returns:
        Each written file, how many prompts it has, and how many different ones.

    Raises:
        PromptError: no such set, no network, a file that is not the manifest's, or a folder that cannot be written.
    """
    if name not in SETS:
        raise PromptError(f"no prompt set is named {name!r}; there are {', '.join(SETS)}")
    files = SETS[name].files
    if given:
        contents = [_given(name, path) for path in given]
    else:
        contents = [(split, _checked(file, _download(file))) for split, file in files.items()]
    return [_write(folder / f"{name}_{split}.jsonl", files[split], content) for split, content in contents]


def _given(name: str, path: Path) -> tuple[str, bytes]:
    """The split whose file this is, and its bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path} cannot be read: {error.strerror}") from None
    for split, file in SETS[name].files.items():
        if file.is_of(content):
            return split, content
    wanted = " or ".join(f"{file.path} ({file.identity})" for file in SETS[name].files.values())
    found = hashlib.sha256(content).hexdigest()[:12]
    raise PromptError(f"{path} is no file of {name}: wanted {wanted} of {SOURCE}, found sha256 {found}")


def _download(file: PromptFile) -> bytes:
    import httpx

    url = SOURCE + file.path
    try:
        reply = httpx.get(url, timeout=TIMEOUT, follow_redirects=True)
        return reply.raise_for_status().content
    except httpx.HTTPStatusError as error:
        raise PromptError(f"{url} could not be had: the server answered {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise PromptError(
            f"{url} could not be had: {error or type(error).__name__}; "
            "without a network, download it elsewhere and give it with --from FILE"
        ) from None


def _checked(file: PromptFile, content: bytes) -> bytes:
    if not file.is_of(content):
        found = f"sha256 {hashlib.sha256(content).hexdigest()[:12]}, {len(content)} bytes"
        raise PromptError(f"{SOURCE}{file.path} is not the file wanted ({file.identity}): found {found}")
    return content


def _write(path: Path, file: PromptFile, content: bytes) -> tuple[Path, int, int]:
    rows = _rows(file, content)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        making.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        making.replace(path)
    except OSError as error:
        raise PromptError(f"{path} cannot be written: {error.strerror}") from None
    return path, len(rows), len({row["prompt"] for row in rows})


def _rows(file: PromptFile, content: bytes) -> list[dict[str, Any]]:
    """A row per line: its prompt and, of an object, all that it says beside the prompt as target."""
    lines = [line for line in content.decode("utf-8").split("\n") if line.strip()]
    if not file.path.endswith(".jsonl"):
        return [{"prompt": line.strip(), "target": None} for line in lines]
    return [{"prompt": each.pop("prompt").strip(), "target": each} for each in map(json.loads, lines)]


def hint(path: Path) -> str:
    """What to type for a prompt file that is not there, if it is one of ours."""
    made = {f"{name}_{split}.jsonl": name for name, prompt_set in SETS.items() for split in prompt_set.files}
    return f"; `python -m bench.prompts get {made[path.name]} --to {path.parent}` makes it" if path.name in made else ""


def listing() -> str:
    """The sets, their files, sizes and licences as a table."""
    rows = [
        (name, split, "?" if file.lines is None else file.lines, file.identity, each.licence)
        for name, each in SETS.items()
        for split, file in each.files.items()
    ]
    table: str = tabulate(rows, headers=("set", "split", "lines", "hash", "licence"))
    return f"{table}\nsource: {SOURCE}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.prompts", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the sets, their sizes and licences")
    command = commands.add_parser("get", help="make a set's files")
    command.add_argument("name", metavar="NAME", help=", ".join(SETS))
    command.add_argument("--from", dest="given", type=Path, nargs="+", default=[], metavar="FILE", help="no download")
    command.add_argument("--to", type=Path, default=Path("prompts"), metavar="FOLDER", help="default: prompts")
    args = parser.parse_args(arguments)
    try:
        if args.command == "list":
            print(listing())
            return 0
        for path, count, different in get(args.name, args.to, args.given):
            print(f"{path}: {count} prompts, {different} different")
    except PromptError as error:
        print(f"bench.prompts: {error}", file=sys.stderr)
        return 2
    return 0
