"""Gold as a function of proxy along training, and the difference of two such curves."""

from __future__ import annotations

import numpy as np

from paper_tables.statistics.panel import Floats

LEVELS = 64  # our choice: midpoints of the common range; the integral of straight pieces is then exact to 1e-3


def overlap(mine: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    """The range of proxies that both curves (..., U) reach: (...,) low and high; high < low where there is none."""
    low = np.maximum(mine[..., 0], theirs[..., 0])
    return low, np.minimum(mine.max(axis=-1), theirs.max(axis=-1))


def matched_difference(proxy: Floats, gold: Floats, other_proxy: Floats, other_gold: Floats) -> Floats:
    """(R, S) mean over the common range of proxies of gold less the other's; all curves are (R, S, U).

    Where the range is one point, the difference there; NaN where there is none.
    """
    low, high = overlap(proxy, other_proxy)
    middles = (np.arange(LEVELS) + 0.5) / LEVELS
    at = low[..., None] + (high - low)[..., None] * middles
    gap = gold_at(at, proxy, gold) - gold_at(at, other_proxy, other_gold)
    return np.where(high >= low, gap.mean(axis=-1), np.nan)


def gold_at(at: Floats, proxy: Floats, gold: Floats) -> Floats:
    """(..., K) gold where the running maximum of the proxy first reaches `at` (..., K), of curves (..., U).

    Linear between two records of the proxy; what lies between them in training is passed over, whatever gold did.
    """
    top = np.maximum.accumulate(proxy, axis=-1)
    fresh = np.concatenate([np.ones_like(top[..., :1], dtype=bool), top[..., 1:] > top[..., :-1]], axis=-1)
    step = np.maximum.accumulate(np.where(fresh, np.arange(top.shape[-1]), 0), axis=-1)
    of_record = np.take_along_axis(gold, step, axis=-1)
    reached = (top[..., None, :] < at[..., :, None]).sum(axis=-1).clip(max=top.shape[-1] - 1)
    before = (reached - 1).clip(min=0)
    (x0, x1), (y0, y1) = (
        tuple(np.take_along_axis(curve, index, axis=-1) for index in (before, reached)) for curve in (top, of_record)
    )
    share = np.divide(at - x0, x1 - x0, out=np.ones_like(at), where=x1 > x0)
    return np.asarray(y0 + share * (y1 - y0))
