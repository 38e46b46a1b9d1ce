"""Claims about the course of training: when gold scores fall, and how fast the proxy rises (Figure 1)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from bench.experiments import PAIRS, Pair
from paper_tables.claims.evidence import Array, Evidence
from paper_tables.claims.register import claim
from paper_tables.claims.scores import FLOW_TEXT, GUARD_TEXT, NO_NUMBER, Held, gain, of_score
from paper_tables.claims.verdict import Band, Effect, Part, inside, larger, untold
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import AVERAGE, Ask, estimate, updates
from paper_tables.statistics.training import observed, peak

# Figure 1, digitised: gold (PickScore) from its peak to update 504, over the base model's 21.5 of Table 1.
FLOW_FALL, GUARD_FALL = (21.775 - 20.44) / 21.5, (21.97 - 21.77) / 21.5
# Its rise to the peak from update 0, where the figure's smoothed line starts.
FLOW_RISE = (21.775 - 21.71) / 21.5
EARLY = 0.5  # our choice; Figure 1 has FlowGRPO's peak at update 84 of 504, a sixth
# Table 1, rows 2 and 7: Average of TempFlowGRPO and of FlowGRPO after 480 updates on text.
TEMP_FALL = 0.88 - 0.52
# Our choice: of the rise that both methods make, the shares at which their times are compared.
RISES = (0.5, 0.9)
# Our choice: times that differ by less than a tenth of the training are comparable.
COMPARABLE = 0.1


@claim("C10", "Figure 1")
def gold_peaks_early_and_falls(evidence: Evidence) -> tuple[Part, ...]:
    """FlowGRPO's gold scores peak early and then fall.

    Test: text on SD3.5-M: fall of the Average from its highest evaluation to the last, against Figure 1's share of the
    base; the highest evaluation after the start, above the start; and its update, as a share of training the mean over
    seeds and known to half the distance of evaluations, within 0 and 1: in the first half.
    """
    fall = _fall(evidence, FLOW_TEXT, Effect(FLOW_FALL, "Figure 1 has"))
    steps = updates(evidence.study, FLOW_TEXT)
    if fall.interval is None or len(steps) < 2:
        return (fall,)
    ids = fall.runs
    parts, when = [fall], _peak_share(evidence, FLOW_TEXT)
    above = estimate(evidence.study, [Ask(FLOW_TEXT, AVERAGE, steps, half) for half in (0, 1)], rise_to_peak)
    if above:
        name, rise = f"{FLOW_TEXT}, rise of {AVERAGE} to its peak", Effect(FLOW_RISE, "Figure 1 has")
        parts.append(larger(name, above, rise, ids))
    if when:
        band = Band(-math.inf, EARLY, "our choice; Figure 1 has a sixth")
        parts.append(inside(f"{FLOW_TEXT}, peak as a share of training", when, band, ids))
    return tuple(parts)


@claim("C11", "Figure 1")
def guard_falls_later(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard's gold scores fall, too, late in training: the fall is delayed and not removed.

    Test: as C10 for GRPO-Guard's fall; and its highest evaluation, as a share of training, less FlowGRPO's: above 0.
    """
    fall = _fall(evidence, GUARD_TEXT, Effect(GUARD_FALL, "Figure 1 has"))
    name, rows = "peak as a share of training, GRPO-Guard's less FlowGRPO's", (GUARD_TEXT, FLOW_TEXT)
    later = _peak_share(evidence, *rows)
    if later is None:
        return (fall, evidence.nothing(name, *rows, what=AVERAGE))
    effect = Effect(COMPARABLE, "a tenth of the training is our choice,", printed=False)
    return (fall, larger(name, later, effect, evidence.behind(later, AVERAGE, *rows)))


def _fall(evidence: Evidence, row: str, effect: Effect) -> Part:
    name, found = f"{row}, fall of {AVERAGE} from its peak", peak(evidence.study, row)
    if found is None:
        return evidence.nothing(name, row, what=AVERAGE)
    return of_score(evidence, name, found.fall, AVERAGE, (row,), partial(larger, effect=effect))


def _peak_share(evidence: Evidence, row: str, less: str = "") -> Interval | None:
    """When the gold average of each seed is highest, as a share of training; with `less` the difference from that row.

    The highest evaluation is looked for in every resample anew. A peak may be half the distance to the next evaluation
    off, by which the interval is widened; it ends where such a share, or such a difference, ends.
    """
    asks = [Ask(name, AVERAGE, updates(evidence.study, name)) for name in (row, less) if name]
    if min(len(ask.updates) for ask in asks) < 2:
        return None
    shares = [np.array(ask.updates) / ask.updates[-1] for ask in asks]

    def when(*curves: Array) -> Array:
        at = [share[curve.argmax(-1)] for share, curve in zip(shares, curves, strict=True)]
        return np.asarray(at[0] - at[1] if less else at[0])

    found, grid = estimate(evidence.study, asks, when), sum(np.diff(share).max() / 2 for share in shares)
    if found is None:
        return None
    floor = -1.0 if less else 0.0  # a share is from 0 to 1, and so a difference of two from -1 to 1
    return replace(found, low=max(found.low - grid, floor), high=min(found.high + grid, 1.0))


def rise_to_peak(one: Array, two: Array) -> Array:
    """(R, S) the highest evaluation after the start less the start, of (R, S, U) curves of both halves of the prompts.

    Each half's evaluation is chosen by the other half, so that its being the highest of many does not raise it.
    """
    chosen = [1 + curve[..., 1:].argmax(-1) for curve in (two, one)]
    levels = [np.take_along_axis(c, at[..., None], -1)[..., 0] for c, at in zip((one, two), chosen, strict=True)]
    return np.asarray((levels[0] - one[..., 0] + levels[1] - two[..., 0]) / 2)


@claim("C12", "Tables 1 and 2, Figure 7")
def reweighting_alone_collapses_sooner(evidence: Evidence) -> tuple[Part, ...]:
    """The weight sigma sqrt(dt) alone (TempFlowGRPO, Temp-Reweight) reaches a proxy sooner and costs more gold.

    Test: text on SD3.5-M: updates to nine tenths of the rise that both make, as a share of training, FlowGRPO's less
    its own: above 0; Average at the end, FlowGRPO's less its own, against rows 7 and 2 of Table 1. Temp-Reweight is the
    weight alone; TempFlowGRPO also branches, and is rewarded at every step.
    """
    printed = Effect(TEMP_FALL, "Table 1, rows 2 and 7, print")
    sooner = Effect(COMPARABLE, "the paper prints no number, a tenth of the training is our choice,", printed=False)
    return (
        _lead(evidence, FLOW_TEXT, "sd3_temp_text", sooner),
        gain(evidence, FLOW_TEXT, "sd3_temp_text", AVERAGE, printed),
        _lead(evidence, FLOW_TEXT, "ablation_temp_reweight", sooner),
        gain(evidence, FLOW_TEXT, "ablation_temp_reweight", AVERAGE, NO_NUMBER),
    )


@claim("C17", "Figure 7")
def convergence_is_comparable(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard's proxy rises about as fast as the base method's without KL, or faster, in updates and in images.

    Test: all five pairs: updates, and images, to half and to nine tenths of the rise that both make, GRPO-Guard's less
    the base method's, as a share of the base method's training: no later than by a tenth. Where a proxy does not rise,
    nothing is said.
    """
    return tuple(part for pair in PAIRS for rise in RISES for part in _lags(evidence, pair, rise))


def _lags(evidence: Evidence, pair: Pair, rise: float) -> tuple[Part, ...]:
    """In updates and images at once where the rows take equally many images for an update."""
    rows = (pair.guard.name, pair.base.name)
    costs = (_images(evidence, rows[0]), _images(evidence, rows[1]))
    each: dict[str, tuple[float, float]] = {"updates": (1.0, 1.0)}
    if costs[0] and costs[1]:
        each = each | {"images": costs} if costs[0] != costs[1] else {"updates and images": (1.0, 1.0)}
    band = Band(-math.inf, COMPARABLE, "a tenth of the training is our choice")
    held = partial(inside, band=band)
    return tuple(_timed(evidence, rows, rise, unit, cost, held) for unit, cost in each.items())


def _lead(evidence: Evidence, row: str, other: str, effect: Effect) -> Part:
    """How much later `row` makes nine tenths of the rise than `other`, in updates."""
    held = partial(larger, effect=effect)
    return _timed(evidence, (row, other), RISES[-1], "updates", (1.0, 1.0), held)


def _timed(
    evidence: Evidence, rows: tuple[str, str], rise: float, unit: str, costs: tuple[float, float],
    held: Held,
) -> Part:  # fmt: skip
    """The first row's lag behind the second, held against something; only where both proxies rise at all."""
    name = f"{' - '.join(rows)}, {unit} to {rise:.0%} of the rise as a share of training"
    found = lag(evidence, *rows, rise, costs)
    if found is None:
        return evidence.nothing(name, *rows, what="proxy")
    flat = [row for row in rows if not rises(evidence, row)]
    if flat or math.isnan(found.value):
        told = f"the proxy of {' and of '.join(flat or rows)} does not rise above its start with certainty"
        return untold(name, f"{told}: there is no common rise to be timed", evidence.ids(*rows))
    part = held(name, found, runs=evidence.behind(found, "proxy", *rows))
    return replace(part, reason=f"{part.reason}; {_goal(evidence, rows, rise)}")


def rises(evidence: Evidence, row: str) -> bool:
    """Whether the proxy's mean over training, without bias where its highest point has some, is above its start."""
    steps = updates(evidence.study, row, "proxy")
    if len(steps) < 2:
        return False
    asks = [Ask(row, "proxy", steps)]
    found = estimate(evidence.study, asks, lambda level: level[..., 1:].mean(-1) - level[..., 0])
    return found is not None and found.low > 0


def _goal(evidence: Evidence, rows: tuple[str, str], rise: float) -> str:
    """The proxy at which the times are taken, and its shares of both rows' own rises; means over seeds."""
    asks = [Ask(row, "proxy", updates(evidence.study, row, "proxy")) for row in rows]
    curves = observed(evidence.study, asks) or []
    goal = threshold(curves[0], curves[1], rise)
    shares = [((goal - curve[:, 0]) / (curve.max(-1) - curve[:, 0])).mean() for curve in curves]
    told = " and ".join(f"{share:.0%} of {row}'s" for share, row in zip(shares, rows, strict=True))
    return f"taken at a proxy of {goal.mean():.3g}, {told} own rise"


def _images(evidence: Evidence, row: str) -> float:
    """Images per update; 0 where no record says."""
    return next((float(run.info["cost"]["images"]) for run in evidence.runs(row) if run.info.get("cost")), 0.0)


def lag(
    evidence: Evidence, row: str, other: str, rise: float, costs: tuple[float, float] = (1.0, 1.0)
) -> Interval | None:
    """How much later `row` comes to `rise` of the proxy's rise that both make, as a share of `other`'s training.

    Args:
        costs: of an update of each, in the unit of the time.
    """
    asks = [Ask(name, "proxy", updates(evidence.study, name, "proxy")) for name in (row, other)]
    times = [np.array(ask.updates) * cost for ask, cost in zip(asks, costs, strict=True)]

    def later(mine: Array, theirs: Array) -> Array:
        goal = threshold(mine, theirs, rise)
        when = [reached(levels, time, goal) for levels, time in zip((mine, theirs), times, strict=True)]
        return np.asarray((when[0] - when[1]) / times[1][-1])

    return estimate(evidence.study, asks, later)


def threshold(mine: Array, theirs: Array, rise: float) -> Array:
    """(...) the proxy at `rise` of the smaller of both rises, NaN where one does not rise; arguments (..., U)."""
    start = (mine[..., 0] + theirs[..., 0]) / 2
    top = np.minimum(mine.max(-1), theirs.max(-1))
    return np.where(top > start, start + rise * (top - start), np.nan)


def reached(levels: Array, times: Array, goal: Array) -> Array:
    """(R, S) when levels (R, S, U) at times (U,) first come to the goal (R, S), linearly between evaluations.

    The last time where they never do, the first where they begin there; NaN for a goal that is NaN.
    """
    above = levels >= goal[..., None]
    after = np.where(above.any(-1), above.argmax(-1), len(times) - 1)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(levels, at[..., None], -1)[..., 0] for at in (before, after))
    share = np.divide(goal - low, high - low, out=np.ones_like(goal), where=high > low)
    when = times[before] + np.clip(share, 0, 1) * (times[after] - times[before])
    return np.where(np.isnan(goal), np.nan, when)
