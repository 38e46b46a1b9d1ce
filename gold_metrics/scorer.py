"""What every judge has in common: what it is given, what it returns, how it declares itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""An RGB image, shape (height, width, 3)."""


@dataclass(frozen=True)
class Entry:
    """What an image set's manifest knows about one image.

    Attributes:
        file: path of the PNG, relative to the folder of the set.
        sha256: of the file's bytes, in hexadecimal; empty for an image that was never written.
        prompt_id: what the images of one prompt share.
        prompt: the text that the image was made from.
        seed: of the noise that the image was made from.
        target: the prompt's meaning as data (`bench.tiny.grammar`), or None where only the text is known.
    """

    file: str
    sha256: str
    prompt_id: str
    prompt: str
    seed: int
    target: dict[str, Any] | None = None


@dataclass(frozen=True)
class Score:
    """A number, or NaN and the reason why there is none: a missing score is never 0.

    Attributes:
        reply: what a judge model said, word for word; empty where the judge does not speak.
    """

    value: float
    reason: str = ""
    reply: str = ""


def missing(reason: str, reply: str = "") -> Score:
    """The score that could not be had, and why."""
    return Score(float("nan"), reason, reply)


class Scorer(Protocol):
    """A judge of images: gold or proxy, rule or model.

    A scorer whose published number is a mean of several parts' means (GenEval's six tasks) has a method `part` too,
    from an entry to the name of its part; without it all images weigh the same.
    """

    @property
    def name(self) -> str:
        """Key in the registry, in the parquet file and in metric names."""
        ...

    @property
    def head(self) -> str:
        """Head of its column in a table."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction of the number."""
        ...

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value; infinite where the number has no bound."""
        ...

    @property
    def per(self) -> Literal["image", "set"]:
        """Whether a score belongs to one image or to all images of one prompt."""
        ...

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that the number depends on besides the images: JSON data. See `definition_hash`."""
        ...

    def fits(self, entry: Entry) -> bool:
        """Whether the entry is of the kind that this judge is for.

        What does not fit gets no row; what fits and cannot be scored gets NaN with its reason. A forgotten target is
        such a fault, not another kind.
        """
        ...

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """Scores in the order of their subjects.

        Args:
            images: N pictures, uint8 (height, width, 3).
            entries: the N manifest entries, in the same order; all of them fit.

        Returns:
            With `per == "image"` N scores; with `per == "set"` one score per key of `by_prompt(entries)`.
        """
        ...


def by_prompt(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """Positions of each prompt's entries: prompt_id -> indices, prompts in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        groups.setdefault(entry.prompt_id, []).append(index)
    return groups


def versions(*packages: str) -> dict[str, str]:
    """Installed release of each package, for a definition: 2.13.0, whether built for a CPU (+cpu) or for CUDA."""
    return {package: importlib.metadata.version(package).partition("+")[0] for package in packages}


def definition_hash(definition: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the sha256 of the definition as canonical JSON.

    Scores are compared only where these agree.
    """
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
