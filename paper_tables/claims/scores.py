"""Claims about scores at the end of training, row against row (Table 1, Figure 7), and at equal proxy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bench.experiments import PAIRS, Pair
from bench.ledger.runs import flatten
from paper_tables import published
from paper_tables.claims.clipping import norms
from paper_tables.claims.evidence import Array, Evidence, bases, over_updates
from paper_tables.claims.matched import at_the_ends, range_of_proxies
from paper_tables.claims.register import claim
from paper_tables.claims.verdict import (
    SEEDS_NEEDED,
    UNDERPOWERED,
    Band,
    Effect,
    Part,
    beside,
    inside,
    larger,
    missing,
    untold,
)
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import AVERAGE, Ask, ends, estimate
from paper_tables.statistics.outcomes import difference, final
from paper_tables.statistics.power import needed
from paper_tables.statistics.training import matched_gold

Held = Callable[..., Part]
# What the released configurations of GRPO-Guard and FlowGRPO differ in, beside their recipes and the KL of C14.
VARIED = ("optim.rate", "method.advantage")
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


def _no_lower(digit: float) -> Band:
    return Band(-digit, math.inf, "a unit of the last digit that Table 1 prints")


@claim("C7", "Table 1")
def proxy_is_not_lost(evidence: Evidence) -> tuple[Part, ...]:
    """At an equal number of updates GRPO-Guard's proxy score is the base method's, or better.

    Test: difference of the proxy at the end of training in all five pairs of Table 1: no lower than a unit of the last
    digit printed.
    """
    return tuple(
        no_loss(evidence, pair.guard.name, pair.base.name, "proxy", _no_lower(LAST_DIGIT[pair.base.task]))
        for pair in PAIRS
    )


@claim("C8", "Table 1, Average")
def gold_is_higher_at_equal_updates(evidence: Evidence) -> tuple[Part, ...]:
    """At an equal number of updates GRPO-Guard's gold scores are above the base method's, in all five pairs.

    Test: difference of the Average at the end of training, against the printed difference; every gold score beside.
    """
    parts = [gain(evidence, pair.guard.name, pair.base.name, AVERAGE, printed_gain(pair)) for pair in PAIRS]
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
    part = replace(part, reason=f"{part.reason}; {range_of_proxies(evidence, rows)}")
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
        no_loss(evidence, GUARD_TEXT, norm, AVERAGE, _no_lower(NO_NUMBER.size)),
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


@claim("C14", "section 4")
def no_heavy_kl_is_needed(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard without a KL penalty does not fall behind FlowGRPO with its own KL penalty.

    Test: at an equal number of updates, Average and proxy no lower than by a unit of the last digit printed. The paper
    has no such row; FlowGRPO's KL is 0.04, for PickScore 0.01.
    """
    parts = []
    for task, digit in LAST_DIGIT.items():
        rows = (f"sd3_guard_{task}", f"sd3_flow_kl_{task}")
        parts.append(no_loss(evidence, *rows, AVERAGE, _no_lower(NO_NUMBER.size)))
        parts.append(no_loss(evidence, *rows, "proxy", _no_lower(digit)))
    return tuple(parts)


@claim("C18", "section 4; the released configurations")
def not_an_effect_of_other_settings(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard's gain is not one of the learning rate or of the advantage's scale.

    Test: C8 on text, in this study and in those of other settings that are named beside it. Runs that differ in a
    setting never share a folder, so each setting is a study of its own.
    """
    if evidence.others:
        return tuple(_text_gain(study) for study in (evidence.study, *evidence.others))
    rows = ", ".join(("sd3_base", FLOW_TEXT, GUARD_TEXT))
    return (missing(
        "other settings", f"each setting is a study of its own: train {rows} with `python -m bench.train row=ROW "
        f"seed=K optim.rate=RATE runs=runs/RATE` on {SEEDS_NEEDED} seeds or more, also with method.advantage=global_std"
        ", and name the folders: `python -m paper_tables claims --other runs/RATE`",
    ),)  # fmt: skip


def _text_gain(study: Study) -> Part:
    """C8 on text in one study, its settings in the part's name."""
    pair = next(pair for pair in PAIRS if pair.guard.name == GUARD_TEXT)
    part = gain(Evidence(study), GUARD_TEXT, FLOW_TEXT, AVERAGE, printed_gain(pair))
    settings = next((flatten(run.info.get("config", {})) for run in study.of([pair.guard])), {})
    shown = ", ".join(f"{key}={settings.get(key)}" for key in VARIED)
    return replace(part, name=f"{part.name} at {shown}")


@claim("C19", "flow_grpo, issue 244")
def released_bias_gives_the_same(evidence: Evidence) -> tuple[Part, ...]:
    """The released script's bias, a mean over the batch, gives the same result as the bias of each sample.

    Test: text on SD3.5-M: Average and proxy at the end equal to a unit of the last digit, and the mean gradient norm
    over all steps equal to within a quarter (our choice).
    """
    rows = ("sd3_guard_released_text", GUARD_TEXT)
    digit = Band(-NO_NUMBER.size, NO_NUMBER.size, "a unit of the last digit that Table 1 prints")
    scores = tuple(no_loss(evidence, *rows, key, digit) for key in (AVERAGE, "proxy"))
    name = f"{rows[0]} / {rows[1]}, gradient norm"
    if not evidence.diagnosed(*rows):
        return (*scores, evidence.nothing(name, *rows, what="diagnostics"))
    released, corrected = (norms(evidence, row).sum(-1) for row in rows)
    band = Band(1 / 1.25, 1.25, "a quarter each way is our choice")
    found = over_updates(released / corrected, *(evidence.updates(row, inner=None) for row in rows))
    return (*scores, inside(name, found, band, evidence.ids(*rows)))
