"""Proxy rewards: which scorer a task trains on."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import gold_metrics
from gold_metrics.scorer import Scorer

TINY = {
    "geneval": ("bench.rewards.geneval", "GenEval"),
    "pickscore": ("bench.rewards.pickscore", "PickScore"),
    "text": ("bench.rewards.text", "Text"),
}
# A task's scorer in gold_metrics, and the options by which it rewards where they are not those by which it judges:
# flow_grpo trains GenEval on the reward server's partial scores and reports its accuracy (rewards.py:429-445, 879042c).
PAPER = {"geneval": "geneval", "pickscore": "pickscore", "text": "text"}
REWARDING: dict[str, dict[str, str]] = {"geneval": {"rule": "partial"}}
SCALES = ("tiny", "paper")


def _check(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or known
        raise ValueError(f"no {kind} is called {name!r}; did you mean {' or '.join(near)}?")


def load(
    task: str, scale: str = "tiny", judges: Mapping[str, Mapping[str, Any]] | None = None, *, rewarding: bool = False
) -> Scorer:
    """The scorer of `task` at `scale`: as the table reports it, or `rewarding`, as it is trained on.

    At `tiny` the two are one `bench.rewards.proxy.Proxy`, which has a batched `rewards` too; at `paper` they are
    scorers of gold_metrics.

    Raises:
        ValueError: no such task or scale; near names are told.
        FileNotFoundError: the tiny preference model's weights are missing.
        WeightsError: the weights of a full-size scorer are not on this machine.
    """
    _check("scale", scale, SCALES)
    _check("task", task, TINY)
    if scale == "paper":
        return _rewarding(task, judges or {}) if rewarding else full_size(PAPER[task], (judges or {}).get(task, {}))
    module, name = TINY[task]
    scorer: Scorer = getattr(importlib.import_module(module), name)()
    return scorer


def _rewarding(task: str, judges: Mapping[str, Mapping[str, Any]]) -> Scorer:
    own, asked = judges.get(f"{task}_reward"), REWARDING.get(task, {})
    options = judges.get(task, {}) if own is None else own
    if asked and own is None and "url" in options:
        wanted = " ".join(f"{option}={value}" for option, value in asked.items())
        raise ValueError(f"{task} is trained on with {wanted}: serve that too and give judges.{task}_reward.url")
    return full_size(PAPER[task], {**asked, **options})


def judge(name: str, scale: str, options: Mapping[str, Mapping[str, Any]]) -> Scorer:
    """The proxy or gold scorer of that name as the table reports it; `options` has those of all judges by name.

    Raises:
        ValueError, FileNotFoundError, WeightsError: as `load`.
    """
    return load(name, scale, options) if name in TINY else full_size(name, options.get(name, {}))


def full_size(name: str, options: Mapping[str, Any]) -> Scorer:
    """A scorer of gold_metrics with its options; with a `url`, the one that `gold_metrics serve` offers there.

    The other options of a served scorer are set where it is served.
    """
    if "url" in options:
        return gold_metrics.load("remote", url=options["url"], scorer=name)
    return gold_metrics.load(name, **options)
