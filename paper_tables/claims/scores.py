"""Claims about scores at the end of training, row against row (Table 1, Figure 7), and at equal proxy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bench.experiments import PAIRS, Pair
from paper_tables import published
from paper_tables.claims.evidence import Array, Evidence, bases
from paper_tables.claims.matched import at_equal_distance, at_the_ends, range_of_proxies
from paper_tables.claims.register import claim
from paper_tables.claims.verdict import (
    UNDERPOWERED,
    Band,
    Effect,
    Part,
    beside,
    inside,
    larger,
    untold,
)
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import AVERAGE, Ask, ends, estimate
from paper_tables.statistics.outcomes import difference, final
from paper_tables.statistics.power import needed
from paper_tables.statistics.training import matched_gold

Held = Callable[..., Part]
FLOW_TEXT, GUARD_TEXT = "sd3_flow_text", "sd3_guard_text"
# A unit of the last digit that Table 1 prints of the proxy (PickScore is printed times 26, as the tables have it).
LAST_DIGIT = {"geneval": 0.01, "pickscore": 0.1, "text": 0.01}
# What the paper gives no number for is held against the last digit that Table 1 prints of an Average.
NO_NUMBER = Effect(0.01, "the paper prints no number, the last digit of its Average is", printed=False)


def gain(evidence: Evidence, row: str, other: str, key: str, effect: Effect) -> Part:
    """Whether `row` ends above `other` in the measure; where that is open, how many seeds an Average needs."""
    part = _compared(evidence, row, other, key, partial(larger, effect=effect))
    if part.verdict != UNDERPOWERED or key != AVERAGE or part.value is None:
        return part
    seeds = needed(evidence.study, row, other, effect.size)
    return replace(part, reason=f"{part.reason}; to find {effect.size:.3g} with a power of 80 %: {seeds}")


def no_loss(evidence: Evidence, row: str, other: str, key: str, band: Band) -> Part:
    """Whether `row` ends no further from `other` in the measure than the band allows."""
    return _compared(evidence, row, other, key, partial(inside, band=band))


def _compared(evidence: Evidence, row: str, other: str, key: str, held: Held) -> Part:
    """The difference at the end, held against something, where there is one."""
    name, found = f"{row} - {other}, {key}", difference(evidence.study, row, other, key)
    if found is None:
        return evidence.nothing(name, row, other, what=key)
    return of_score(evidence, name, found, key, (row, other), held)


def of_score(evidence: Evidence, name: str, found: Interval, key: str, rows: tuple[str, ...], held: Held) -> Part:
    """A number made of scores, held against something; untold where its Average does not exist."""
    runs = evidence.behind(found, key, *rows)
    if key == AVERAGE and math.isnan(found.value):
        return untold(name, f"the Average does not exist: {_not_positive(evidence, rows)}", runs)
    return held(name, found, runs=runs)


def _not_positive(evidence: Evidence, rows: tuple[str, ...]) -> str:
    """The gold scores of the rows' base models that are 0 or less, of which no share can be taken."""
    keys = [(base, f"gold/{gold}") for base in bases(rows) for gold in evidence.study.golds]
    lost = [f"{base}'s {key} is {found.value:.3g}" for base, key in keys
            if (found := final(evidence.study, base, key)) and found.value <= 0]  # fmt: skip
    return f"{', '.join(lost) or 'a gold score of a base model is not above 0'}, wanted above 0"


def printed_gain(pair: Pair) -> Effect:
    """How far Table 1 prints GRPO-Guard's Average above its base method's."""
    frame, name = published.table1(), pair.guard.name
    return Effect(float(frame["d_average"][name]), f"Table 1, row {frame['row'][name]}, prints")


def no_lower(digit: float) -> Band:
    """No further below than a unit of the last digit that Table 1 prints."""
    return Band(-digit, math.inf, "a unit of the last digit that Table 1 prints")


@claim("C7", "Table 1")
def proxy_is_not_lost(evidence: Evidence) -> tuple[Part, ...]:
    """At an equal number of updates GRPO-Guard's proxy score is the base method's, or better.

    Test: difference of the proxy at the end of training in all five pairs of Table 1: no lower than a unit of the last
    digit printed.
    """
    return tuple(
        no_loss(evidence, pair.guard.name, pair.base.name, "proxy", no_lower(LAST_DIGIT[pair.base.task]))
        for pair in PAIRS
    )


@claim("C8", "Table 1, Average")
def gold_is_higher_at_equal_updates(evidence: Evidence) -> tuple[Part, ...]:
    """At an equal number of updates GRPO-Guard's gold scores are above the base method's, in all five pairs.

    Test: difference of the Average at the end of training, against the printed difference. Beside, the same at
    equal KL to the base model, and every gold score.
    """
    parts = [gain(evidence, pair.guard.name, pair.base.name, AVERAGE, printed_gain(pair)) for pair in PAIRS]
    for pair in PAIRS:
        parts += at_equal_distance(evidence, (pair.guard.name, pair.base.name))
    for pair in PAIRS:
        for gold in evidence.study.golds if not evidence.absent(pair.guard.name, pair.base.name) else ():
            part = gain(evidence, pair.guard.name, pair.base.name, f"gold/{gold}", NO_NUMBER)
            parts.append(beside(part, "each gold score"))
    return tuple(parts)


@claim("C9", "Figure 1")
def gold_is_higher_at_equal_proxy(evidence: Evidence) -> tuple[Part, ...]:
    """At an equal proxy score, too, GRPO-Guard's gold scores are above the base method's.

    Test: mean difference of the Average over the proxies that both reach, in all five pairs. Stronger than what the
    paper tests; held against the differences that Table 1 prints at equal updates. Beside, gold at each row's end and
    where the other came to that proxy.
    """
    return tuple(part for pair in PAIRS for part in _at_equal_proxy(evidence, pair))


def _at_equal_proxy(evidence: Evidence, pair: Pair) -> tuple[Part, ...]:
    rows = (pair.guard.name, pair.base.name)
    name = f"{' - '.join(rows)}, {AVERAGE} at equal proxy"
    if evidence.absent(*rows):
        return (evidence.nothing(name, *rows, what=AVERAGE),)
    found = matched_gold(evidence.study, *rows)
    if found.interval is None:
        return (untold(name, found.reason, evidence.ids(*rows)),)
    part = of_score(evidence, name, found.interval, AVERAGE, rows, partial(larger, effect=printed_gain(pair)))
    more = filter(None, (part.reason, found.reason, range_of_proxies(evidence, rows)))
    part = replace(part, reason="; ".join(more))
    return (part, *at_the_ends(evidence, rows))


@claim("C13", "Table 2, Figure 7")
def mean_correction_gives_most(evidence: Evidence) -> tuple[Part, ...]:
    """Removing the mean alone gives most of the benefit; the gold scores rise from row to row of Table 2.

    Test: differences of the Average at the end: Mean-revised above FlowGRPO, held against half of what Table 1 prints
    for the whole method, and by more than half of what GRPO-Guard has here; RatioNorm above Mean-revised, GRPO-Guard no
    lower than RatioNorm by a unit of the last digit.
    """
    whole = printed_gain(next(pair for pair in PAIRS if pair.guard.name == GUARD_TEXT))
    half = Effect(whole.size / 2, f"half of what {whole.source} is")
    mean, norm = "ablation_mean_revised", "ablation_ratio_norm"
    return (
        gain(evidence, mean, FLOW_TEXT, AVERAGE, half),
        _most(evidence, mean, GUARD_TEXT, FLOW_TEXT),
        gain(evidence, norm, mean, AVERAGE, NO_NUMBER),
        no_loss(evidence, GUARD_TEXT, norm, AVERAGE, no_lower(NO_NUMBER.size)),
    )


def _most(evidence: Evidence, part: str, whole: str, base: str) -> Part:
    """Whether more than half of what `whole` has over `base` is there with `part` already, in one estimate."""
    rows = (part, whole, base)
    name = f"({part} - {base}) - ({whole} - {base}) / 2, {AVERAGE}"
    end = ends(evidence.study, *rows)
    asks = [Ask(row, AVERAGE, (update,)) for row, update in zip(rows, end[0], strict=True)] if end else []
    found = estimate(evidence.study, asks, lambda *scores: _beyond_half(*scores)[..., 0]) if asks else None
    if found is None or end is None:
        return evidence.nothing(name, *rows, what=AVERAGE)
    found = replace(found, update=end[0][0], note="; ".join(filter(None, (end[1], found.note))))
    return of_score(evidence, name, found, AVERAGE, rows, partial(larger, effect=NO_NUMBER))


def _beyond_half(part: Array, whole: Array, base: Array) -> Array:
    return np.asarray((part - base) - (whole - base) / 2)
