"""What happens on the way: the highest gold and the fall from it, gold at matched proxy, hacking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval, column_means
from paper_tables.statistics.estimate import (
    AVERAGE,
    PROXY,
    Ask,
    aligned,
    base_row,
    ends,
    estimate,
    estimate_each,
    levels,
    task_of,
    updates,
)
from paper_tables.statistics.matching import matched_difference, overlap, within
from paper_tables.statistics.outcomes import TIE, along
from paper_tables.statistics.panel import Floats, Judged

NOT_IN_COMMON = "in over a tenth of the resamples the proxies have no range in common that both were evaluated in"
YES, NO, UNCLEAR = "yes", "no", "unclear"


@dataclass(frozen=True)
class Peak:
    """Where the gold average of a row is highest, and how far it is below that at the end.

    Attributes:
        value: the average there; being a maximum over noisy evaluations, it is too high.
        fall: the drop from the peak to the last evaluation, without that bias: the step of the peak is chosen on half
            of the prompts and the fall measured on the other half, both ways, averaged; resamples choose anew. Without
            ends where all of them chose the last evaluation. What a seed does to all prompts alike is in both halves:
            with few seeds some bias is left.
    """

    update: int
    value: float
    fall: Interval


@dataclass(frozen=True)
class Matched:
    """The gold average of one row less that of another where their proxies are equal.

    Attributes:
        interval: of the mean difference at the proxies that both reach and at which the row with fewer evaluations
            there was evaluated; None where there are none.
        low, high: that range of proxies, at the scores as they are, averaged over seeds; NaN where there is none.
        reason: why there is no interval; else empty.
    """

    interval: Interval | None
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""


def area_between(study: Study, row: str, other: str) -> Interval | None:
    """The area between the gold averages of `row` and `other` over training, per update.

    By the trapezoidal rule over the updates at which both were evaluated; None with fewer than two of those.
    """
    both = sorted(set(updates(study, row)) & set(updates(study, other)))
    if len(both) < 2:
        return None
    asks = [Ask(name, AVERAGE, tuple(both)) for name in (row, other)]
    length = both[-1] - both[0]
    return estimate(study, asks, lambda mine, theirs: np.trapezoid(mine - theirs, both, axis=-1) / length)


def peak(study: Study, row: str) -> Peak | None:
    """The highest gold average of a row; None without a second evaluation, one at the end, or a base model's run."""
    steps = updates(study, row)
    halves = [Ask(row, AVERAGE, steps, half) for half in (0, 1)]
    if len(steps) < 2 or steps[-1] != _end(study, row):
        return None
    whole = across(study, Ask(row, AVERAGE, steps))
    top = int(whole.argmax())
    found = estimate(study, halves, _fall)
    return Peak(steps[top], float(whole[top]), _unless_certain(found)) if found else None


def _fall(one: Floats, two: Floats) -> Floats:
    """(R, S) each half's fall from the step that the other half chose, in each resample anew; halves are (R, S, U)."""
    falls = []
    for choosing, measured in ((one, two), (two, one)):
        step = choosing.mean(axis=1).argmax(axis=-1)[:, None, None]
        falls.append(np.take_along_axis(measured, step, axis=-1)[..., 0] - measured[..., -1])
    return np.asarray((falls[0] + falls[1]) / 2)


def _unless_certain(found: Interval) -> Interval:
    """Without ends where every resample chose the last evaluation: that no fall was seen is not that there is none."""
    return replace(found, low=float("nan"), high=float("nan")) if found.low == found.high else found


def matched_gold(study: Study, row: str, other: str) -> Matched:
    """The gold average of `row` less that of `other` at equal proxy (Gao et al. 2022 plot gold so).

    Training is followed by the highest proxy so far: at a proxy between two of its records gold is interpolated
    linearly between them, so that a row that goes along another's curve at another speed differs by nothing. Per seed
    the difference is averaged over the records of the row with fewer of them in the range that both reach; only the
    denser row is interpolated, since a chord lies below a curve that bends down.
    """
    if not comparable_pair(study, row, other):
        return Matched(None, reason=f"{row} and {other} are not trained on one proxy of one backbone, or not run")
    asks = [Ask(name, key, _both(study, name)) for name in (row, other) for key in (PROXY, AVERAGE)]
    curves = observed(study, asks)
    if curves is None:
        return Matched(None, reason=f"no seed has evaluations of {row}, {other} and their base model")
    low, high = overlap(curves[0], curves[2])
    if not (high > low).all():
        return Matched(None, reason=_apart(row, other, curves[0], curves[2]))
    sparse = [name for name, in_range in _within(row, other, curves) if not in_range.any(axis=-1).all()]
    if sparse:
        return Matched(None, float(low.mean()), float(high.mean()), _sparse(sparse, low, high))
    found = estimate(study, asks, matched_difference)
    if found is None or np.isnan(found.low):
        return Matched(found, float(low.mean()), float(high.mean()), NOT_IN_COMMON)
    return Matched(found, float(low.mean()), float(high.mean()))


@lru_cache(maxsize=256)
def hacking(study: Study, row: str) -> pd.DataFrame:
    """Reward hacking by checkpoint (arXiv 2403.03185): the proxy above the base model's, the gold average below.

    Columns: update; proxy_gain and gold_gain with _low and _high, less the base model's; flag, "yes" where both
    intervals are beyond 0, "no" where one is on the harmless side of it, else "unclear". No lines for a base model.
    It is made once: change a copy.
    """
    lines: list[dict[str, object]] = []
    steps = _both(study, row)
    proxies, golds = _gains(study, row, steps), along(study, row, AVERAGE, steps)
    for update, proxy, gold in zip(steps, proxies or [], golds or [], strict=False):
        line: dict[str, object] = {"update": update}
        for name, found, zero in (("proxy_gain", proxy, 0), ("gold_gain", gold, 1)):
            line |= {name: found.value - zero, f"{name}_low": found.low - zero, f"{name}_high": found.high - zero}
        lines.append(line | {"flag": _flag(proxy, gold)})
    gains = [name + end for name in ("proxy_gain", "gold_gain") for end in ("", "_low", "_high")]
    return pd.DataFrame(lines, columns=["update", *gains, "flag"])


def observed(study: Study, asks: Sequence[Ask]) -> list[Floats] | None:
    """(S, U) for each of `asks`, as `estimate` would have them; None where that would be None."""
    panels = aligned(study, asks)
    if panels is None:
        return None
    return [curve[0] for curve in levels(asks, [column_means(panel) for panel in panels])]


def across(study: Study, ask: Ask) -> Floats:
    """(U,) means over seeds; NaN where there is no such measure."""
    found = observed(study, [ask])
    return found[0].mean(axis=0) if found else np.full(len(ask.updates), np.nan)


def comparable_pair(study: Study, row: str, other: str) -> bool:
    """Whether both are trained, on one proxy of one backbone."""
    return task_of(study, row) != "" and len({(task_of(study, x), base_row(study, x)) for x in (row, other)}) == 1


def _end(study: Study, row: str) -> int | None:
    end = ends(study, row)
    return end[0][0] if end else None


def _both(study: Study, row: str) -> tuple[int, ...]:
    """The updates with proxy and golds."""
    proxies = set(updates(study, row, PROXY))
    return tuple(update for update in updates(study, row) if update in proxies)


def _gains(study: Study, row: str, steps: tuple[int, ...]) -> list[Interval] | None:
    """The row's proxy less its base model's at each update."""
    base, task = base_row(study, row), task_of(study, row)
    if base is None or not task:
        return None
    key = f"proxy/{task}"
    return estimate_each(study, [Ask(row, key, steps), Ask(base, key, (0,))], lambda mine, before: mine - before)


def _flag(proxy: Interval, gold: Interval) -> str:
    if proxy.low > 0 and gold.high < 1:
        return YES
    return NO if proxy.high <= TIE or gold.low >= 1 - TIE else UNCLEAR


def _apart(row: str, other: str, mine: Floats, theirs: Floats) -> str:
    """Why two proxies (S, U) have no common range under some seed."""
    flat = [name for name, curve in ((row, mine), (other, theirs)) if (curve.max(axis=1) <= curve[:, 0]).any()]
    if flat:
        return f"under at least one seed the proxy of {' and of '.join(flat)} never rises above its start"
    return f"the proxies of {row} and {other} have no range in common"


def _within(row: str, other: str, curves: list[Floats]) -> tuple[tuple[str, Judged], tuple[str, Judged]]:
    """Which evaluations of either row lie in the range of proxies that both reach; `curves` as in matched_gold."""
    return (row, within(curves[0], curves[2])), (other, within(curves[2], curves[0]))


def _sparse(names: list[str], low: Floats, high: Floats) -> str:
    return (
        f"between the proxies {low.mean():.4f} and {high.mean():.4f} that both reach, under at least one seed "
        f"{' and '.join(names)} was never evaluated: evaluate more often"
    )
