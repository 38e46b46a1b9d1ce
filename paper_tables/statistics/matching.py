"""Gold as a function of proxy along training, and the difference of two such curves."""

from __future__ import annotations

import numpy as np

from paper_tables.statistics.panel import Floats, Judged


def overlap(mine: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    """The range of proxies that both curves (..., U) reach: (...,) low and high; high < low where there is none."""
    low = np.maximum(mine[..., 0], theirs[..., 0])
    return low, np.minimum(mine.max(axis=-1), theirs.max(axis=-1))


def matched_difference(proxy: Floats, gold: Floats, other_proxy: Floats, other_gold: Floats) -> Floats:
    """(R, S) mean of gold less the other's, at the records of the sparser curve in the common range of proxies.

    All curves are (R, S, U). A chord between two records lies below a concave curve, the more so the further they are
    apart; hence only the curve with more records in the range is interpolated, and both in turn where they have
    equally many. NaN where one has no record there beyond the start.
    """
    mine, theirs = (within(one, other) for one, other in ((proxy, other_proxy), (other_proxy, proxy)))
    at_mine = _mean(gold - gold_at(proxy, other_proxy, other_gold), mine)
    at_theirs = _mean(gold_at(other_proxy, proxy, gold) - other_gold, theirs)
    counts = [inside.sum(axis=-1) for inside in (mine, theirs)]
    equal = np.where(counts[0] == counts[1], (at_mine + at_theirs) / 2, np.nan)
    found = np.where(counts[0] < counts[1], at_mine, np.where(counts[0] > counts[1], at_theirs, equal))
    return np.where(np.minimum(*counts) > 0, found, np.nan)


def within(proxy: Floats, other: Floats) -> Judged:
    """(..., U) whether an evaluation is a record of the proxy, beyond the start of the range that both reach."""
    low, high = (end[..., None] for end in overlap(proxy, other))
    return np.asarray(_records(proxy) & (proxy > low) & (proxy <= high))


def gold_at(at: Floats, proxy: Floats, gold: Floats) -> Floats:
    """(..., K) gold where the running maximum of the proxy first reaches `at` (..., K), of curves (..., U).

    Linear between two records of the proxy; what lies between them in training is passed over, whatever gold did.
    """
    top, fresh = np.maximum.accumulate(proxy, axis=-1), _records(proxy)
    step = np.maximum.accumulate(np.where(fresh, np.arange(top.shape[-1]), 0), axis=-1)
    of_record = np.take_along_axis(gold, step, axis=-1)
    reached = (top[..., None, :] < at[..., :, None]).sum(axis=-1).clip(max=top.shape[-1] - 1)
    before = (reached - 1).clip(min=0)
    (x0, x1), (y0, y1) = (
        tuple(np.take_along_axis(curve, index, axis=-1) for index in (before, reached)) for curve in (top, of_record)
    )
    share = np.divide(at - x0, x1 - x0, out=np.ones_like(at), where=x1 > x0)
    return np.asarray(y0 + share * (y1 - y0))


def _records(proxy: Floats) -> Judged:
    """(..., U) whether an evaluation's proxy is above all before; the first is."""
    top = np.maximum.accumulate(proxy, axis=-1)
    return np.concatenate([np.ones_like(top[..., :1], dtype=bool), top[..., 1:] > top[..., :-1]], axis=-1)


def _mean(values: Floats, kept: Judged) -> Floats:
    """(...,) mean over the kept of the last axis, NaN where there are none."""
    number = kept.sum(axis=-1)
    total = np.where(kept, values, 0).sum(axis=-1)
    return np.asarray(np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0))
