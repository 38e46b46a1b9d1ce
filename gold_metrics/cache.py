"""Scores that were had before: a second call scores nothing, an interrupted one goes on.

One append-only file of JSON lines per definition, so that a kill or a full disk costs the last line at most.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gold_metrics.image_set import ImageSet
from gold_metrics.scorer import Score, Scorer, definition_hash


def key(image_set: ImageSet, *indices: int) -> str:
    """What a score depends on beside the definition: the bytes of its image or images, the prompt and its meaning."""
    entry = image_set.entries[indices[0]]
    return _hash([_sha256(image_set, index) for index in indices], entry.prompt, entry.target)


def _sha256(image_set: ImageSet, index: int) -> str:
    known = image_set.entries[index].sha256
    return known or hashlib.sha256(np.ascontiguousarray(image_set.images[index]).tobytes()).hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Cache:
    """The scores of one scorer with one definition, by `key`: those of earlier calls, and all of this one."""

    def __init__(self, folder: Path | None, scorer: Scorer) -> None:
        """`folder` is made if need be; with None nothing outlives this object."""
        self._path = folder and folder / f"{scorer.name}-{definition_hash(scorer.definition)}.jsonl"
        self._scores = _read(self._path) if self._path else {}

    def __contains__(self, key: str) -> bool:
        return key in self._scores

    def now(self, key: str) -> Score:
        """The score that was had, in this call or before."""
        return self._scores[key]

    def add(self, scores: Mapping[str, Score]) -> None:
        """Keeps the scores. One that could not be had is not written: it is asked for again by the next call.

        Raises:
            OSError: the folder cannot be written.
        """
        self._scores |= scores
        had = {key: score for key, score in scores.items() if not math.isnan(score.value)}
        if self._path and had:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # The line break stands first, so that a line torn by a kill spoils no other.
            lines = ("\n" + json.dumps({"key": key} | dataclasses.asdict(score)) for key, score in had.items())
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))


def _read(path: Path) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            fields = json.loads(line)
            key = fields.pop("key")
            scores[key] = Score(**fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # torn by a kill or a full disk: that score is had again
    return scores
