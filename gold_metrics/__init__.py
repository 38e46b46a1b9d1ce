"""Judges of image sets. They know nothing of how the images were made.

Importing this package imports neither torch nor pandas: the oracles of the little world do without. Code that goes on
to torchvision, transformers, diffusers, open_clip or peft calls `gold_metrics.torchvision_repair.repair()` first.
"""

from __future__ import annotations

import difflib
import importlib

from gold_metrics.judging import judge, write_scores
from gold_metrics.scorer import Entry, Picture, Score, Scorer, by_prompt, definition_hash, missing

__all__ = [
    "ORACLES",
    "SCORERS",
    "Entry",
    "Picture",
    "Score",
    "Scorer",
    "by_prompt",
    "definition_hash",
    "judge",
    "load",
    "missing",
    "write_scores",
]

SCORERS = {
    "correctness": "gold_metrics.correctness:Correctness",
    "cleanliness": "gold_metrics.cleanliness:Cleanliness",
    "variety": "gold_metrics.variety:Variety",
}
"""Name of a scorer -> `module:class`, imported by `load` so that a judge costs nothing until it is asked for."""

ORACLES = ("correctness", "cleanliness", "variety")
"""The exact judges of the little world."""


def load(name: str) -> Scorer:
    """The scorer of that name, ready to judge.

    Raises:
        KeyError: no such scorer; names the near ones.
    """
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=3) or sorted(SCORERS)
        raise KeyError(f"no scorer is named {name!r}; did you mean {', '.join(near)}?")
    module, kind = SCORERS[name].split(":")
    scorer: Scorer = getattr(importlib.import_module(module), kind)()
    return scorer
