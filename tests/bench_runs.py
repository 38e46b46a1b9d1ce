"""Small real runs on the shipped pipelines: what the tests of bench share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bench import config, suite
from bench.config import Config

PROMPTS = Path(config.__file__).parent / "tiny" / "prompts"
SMALL = (
    "updates=4",
    "sampling.steps=4",
    "sampling.groups=2",
    "sampling.group_size=6",
    "sampling.micro_batch=12",
    "optim.micro_batch=6",
    "evaluation.steps=2",
    "evaluation.images_per_prompt=1",
    "evaluation.every=2",
    "checkpoint_every=1",
    "tracking=null",
)


def evaluation_prompts(folder: Path) -> Path:
    """Four of the shipped evaluation prompts, of both families."""
    lines = (PROMPTS / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
    path = folder / "evaluation.jsonl"
    path.write_text("\n".join([*lines[:2], *lines[-2:]]) + "\n", encoding="utf-8")
    return path


def overrides(folder: Path, *more: str) -> list[str]:
    """The small settings with run folder and evaluation prompts in `folder`."""
    return [*SMALL, f"runs={folder}/runs", f"evaluation.prompts={evaluation_prompts(folder)}", *more]


def settings(row: str, folder: Path, *more: str) -> Config:
    """A small run's configuration; `folder` is filled in at the end, so that equal requests are composed once."""
    os.environ["FOLDER"] = str(folder)
    asked = [each.replace(str(folder), "${oc.env:FOLDER}") for each in overrides(folder, *more)]
    return suite.configure(row, asked)


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
