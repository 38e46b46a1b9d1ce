"""Prompt files: one prompt a line, or JSON lines with `prompt` and, where a judge needs it, a structured `target`.

`python -m bench.prompts` lists the public prompt sets and makes their files (`bench.prompt_sets`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.noise import Coordinates, generator


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, its id (a hash of its text) and, on the tiny scale or for GenEval, its meaning as data."""

    id: str
    text: str
    target: dict[str, Any] | None = None


def load(path: Path, repeats: bool = False) -> list[Prompt]:
    """The prompts of a `.txt` or `.jsonl` file in its order; `repeats` keeps repetitions, which weigh in training.

    Raises:
        PromptError: the file is missing or empty, or a line is empty, not UTF-8, or not an object with a `prompt`.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        from bench.prompt_sets import hint  # it imports this module

        raise PromptError(f"prompt file {path} cannot be read: {error.strerror}{hint(path)}") from error
    if not lines:
        raise PromptError(f"prompt file {path} is empty; it needs a prompt a line")
    prompts = [_parse(line, path, number) for number, line in enumerate(lines, start=1)]
    return prompts if repeats else list({prompt.id: prompt for prompt in prompts}.values())


def _parse(line: bytes, path: Path, number: int) -> Prompt:
    where = f"prompt file {path}, line {number}"
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise PromptError(f"{where} is not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    target = None
    if path.suffix == ".jsonl" and text:
        try:
            row = json.loads(text)
            text, target = row["prompt"].strip(), row.get("target")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PromptError(f'{where} must be an object with a string "prompt", found: {text[:60]}') from error
    if not text:
        raise PromptError(f"{where} is empty; delete the line or write a prompt")
    return Prompt(hashlib.sha256(text.encode()).hexdigest()[:12], text, target)


def of_epoch(prompts: list[Prompt], count: int, seed: int, epoch: int) -> list[Prompt]:
    """The `count` different prompts of an epoch, the same for every method.

    A prompt that the file repeats is drawn as much more often: flow_grpo's GenEval file weighs its six tasks by it.

    Raises:
        PromptError: the file has fewer prompts than an epoch needs.
    """
    order = generator(Coordinates(seed, "prompts", epoch)).permutation(len(prompts))
    different: dict[str, Prompt] = {}
    for i in order:
        different.setdefault(prompts[i].id, prompts[i])
        if len(different) == count:
            return list(different.values())
    raise PromptError(f"an epoch needs {count} different prompts and the file has {len(different)}; lower groups")


def of_run(prompts: list[Prompt], count: int, seed: int, epochs: int) -> list[Prompt]:
    """The prompts of every epoch in their order, `count` each: a longer run begins with those of a shorter one.

    Raises:
        PromptError: as `of_epoch`.
    """
    return [prompt for epoch in range(epochs) for prompt in of_epoch(prompts, count, seed, epoch)]


def fingerprint(prompts: list[Prompt]) -> str:
    """Hash of the prompts, with their targets, in their order."""
    lines = (json.dumps([prompt.id, prompt.target], sort_keys=True) for prompt in prompts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


if __name__ == "__main__":
    import sys

    from bench.prompt_sets import main

    sys.exit(main())
