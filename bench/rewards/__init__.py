"""Proxy rewards: which scorer a task trains on."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

from gold_metrics.scorer import Scorer

TINY = {
    "geneval": ("bench.rewards.geneval", "GenEval"),
    "pickscore": ("bench.rewards.pickscore", "PickScore"),
    "text": ("bench.rewards.text", "Text"),
}
PAPER = {"geneval": "geneval", "pickscore": "pickscore", "text": "text"}  # a task's scorer in gold_metrics
SCALES = ("tiny", "paper")


def _check(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or known
        raise ValueError(f"no {kind} is called {name!r}; did you mean {' or '.join(near)}?")


def load(task: str, scale: str = "tiny") -> Scorer:
    """The scorer that rewards `task` at `scale`.

    At `tiny` it is a `bench.rewards.proxy.Proxy`, which has a batched `rewards` too; at `paper` a scorer of
    gold_metrics.

    Raises:
        ValueError: no such task or scale (near names are told), or gold_metrics has no such scorer.
        FileNotFoundError: the tiny preference model's weights are missing.
    """
    _check("scale", scale, SCALES)
    _check("task", task, TINY)
    if scale == "paper":
        return _full_size(task)
    module, name = TINY[task]
    scorer: Scorer = getattr(importlib.import_module(module), name)()
    return scorer


def _full_size(task: str) -> Scorer:
    import gold_metrics

    if PAPER[task] not in gold_metrics.SCORERS:
        raise ValueError(
            f"task {task!r} at scale 'paper' is rewarded by the scorer {PAPER[task]!r}, "
            "which gold_metrics lacks: use scale=tiny, or add that scorer to gold_metrics.SCORERS"
        )
    return gold_metrics.load(PAPER[task])
