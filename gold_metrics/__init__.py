"""Judges of image sets. They know nothing of how the images were made.

Importing this package imports neither torch nor pandas: the oracles of the little world do without. Code that goes on
to torchvision, transformers, diffusers, open_clip or peft calls `gold_metrics.torchvision_repair.repair()` first.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from gold_metrics.judging import judge, write_scores
from gold_metrics.options import fitted
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
    "hpsv2": "gold_metrics.hpsv2:HPSv2",
    "image_reward": "gold_metrics.image_reward:ImageReward",
    "unified_reward": "gold_metrics.unified_reward:UnifiedReward",
    "pickscore": "gold_metrics.pickscore:PickScore",
    "clip_score": "gold_metrics.clip_score:ClipScore",
    "aesthetic": "gold_metrics.aesthetic:Aesthetic",
    "geneval": "gold_metrics.geneval:GenEval",
    "text": "gold_metrics.text:Text",
    "remote": "gold_metrics.remote:Remote",
    "diversity": "gold_metrics.image_statistics:Diversity",
    "duplicates": "gold_metrics.image_statistics:Duplicates",
    "edge_density": "gold_metrics.image_statistics:EdgeDensity",
    "color_entropy": "gold_metrics.image_statistics:ColorEntropy",
    "saturation": "gold_metrics.image_statistics:Saturation",
    "stripes": "gold_metrics.image_statistics:Stripes",
}
"""Name of a scorer -> `module:class`, imported by `load` so that a judge costs nothing until it is asked for."""

ORACLES = ("correctness", "cleanliness", "variety")
"""The exact judges of the little world."""


def load(name: str, **options: Any) -> Scorer:
    """The scorer of that name, ready to judge.

    Args:
        options: what its class takes, for instance `backend="transformers"`; texts become numbers and paths.

    Raises:
        KeyError: no such scorer; names the near ones.
        ValueError: no such option, which names those that there are, or a value that it cannot take.
        WeightsError: its weights are not on this machine.
    """
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=3) or sorted(SCORERS)
        raise KeyError(f"no scorer is named {name!r}; did you mean {', '.join(near)}?")
    module, attribute = SCORERS[name].split(":")
    kind = getattr(importlib.import_module(module), attribute)
    scorer: Scorer = kind(**fitted(name, kind, options))
    return scorer
