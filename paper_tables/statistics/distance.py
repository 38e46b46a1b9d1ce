"""Scores against the distance from the base model, sqrt(KL), as Gao et al. 2022 plot them (arXiv 2210.10760, figure 1).

They find KL inadequate to compare how much two methods have optimized. Here more than there: a step counts by its
change over the variance of its noise, so that most of a KL can be the least noisy step's, and a method that trains
that step most is far in KL without being far in pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import AVERAGE, PROXY, Ask, aligned, estimate, updates
from paper_tables.statistics.matching import gold_at, overlap
from paper_tables.statistics.panel import Floats
from paper_tables.statistics.training import across, comparable_pair

KL = "kl/base"


@dataclass(frozen=True)
class AtDistance:
    """A score of one row less that of another, both equally far from the base model.

    Attributes:
        interval: of the difference; None where there is none.
        reach: that distance, sqrt(KL in nats per image), averaged over seeds; NaN where there is none.
        reason: why there is no interval; else empty.
    """

    interval: Interval | None
    reach: float = float("nan")
    reason: str = ""


def divergence(study: Study, row: str) -> pd.DataFrame:
    """Gold and proxy against the distance from the base model; means over seeds.

    Columns: update, sqrt_kl (the square root of the KL in nats per image, summed exactly over the transitions; NaN
    where the record has none), gold/average, proxy.
    """
    steps = updates(study, row)
    found = _recorded(study, row)
    kl = pd.concat(found.values()).groupby(level=0).mean() if found else pd.Series(dtype=float)
    return pd.DataFrame(
        {
            "update": list(steps),
            "sqrt_kl": np.sqrt(kl.reindex(steps).to_numpy(dtype=float)),
            AVERAGE: across(study, Ask(row, AVERAGE, steps)),
            "proxy": across(study, Ask(row, PROXY, steps)),
        }
    )


def difference_at_distance(study: Study, row: str, other: str, key: str = AVERAGE) -> AtDistance:
    """A score of `row` less that of `other` at equal sqrt(KL) to the base model: the furthest that both reach.

    Per seed the one that ends nearer is taken at its furthest evaluation and the other where it was as far, linear
    between two of its evaluations, which may be early in its training. A chord lies below a curve that bends down, by
    a quarter of what one interval of evaluations bends at most, in favor of the nearer. Distances are not resampled.
    """
    if not comparable_pair(study, row, other):
        return AtDistance(None, reason=f"{row} and {other} are not trained on one proxy of one backbone, or not run")
    asks = [Ask(name, key, updates(study, name, key)) for name in (row, other)]
    panels = aligned(study, asks)
    if panels is None:
        return AtDistance(None, reason=f"no seed has evaluations of {row}, {other} and their base model")
    mine, theirs = (_distances(study, ask, panels[0].seeds) for ask in asks)
    if mine is None or theirs is None:
        return AtDistance(None, reason=f"under at least one seed {row} or {other} has no record of its KL to the base")
    found = estimate(study, asks, partial(_at_the_furthest, mine, theirs))
    return AtDistance(found, float(overlap(mine, theirs)[1].mean()))


def _at_the_furthest(mine: Floats, theirs: Floats, gold: Floats, other_gold: Floats) -> Floats:
    """(R, S) from distances (S, U), the same in every resample, and golds (R, S, U)."""
    reach = overlap(mine, theirs)[1][None, :, None]
    one, two = (gold_at(reach, at[None], each)[..., 0] for at, each in ((mine, gold), (theirs, other_gold)))
    return np.asarray(one - two)


def at_the_end(study: Study, row: str) -> float:
    """sqrt(KL) where a run last recorded it, of the mean over seeds; NaN where none did."""
    found = [kl.iloc[-1] for kl in _recorded(study, row).values() if len(kl)]
    return float(np.sqrt(np.mean(found))) if found else float("nan")


@lru_cache(maxsize=256)
def _recorded(study: Study, row: str) -> dict[int, pd.Series[float]]:
    """By seed the KL by update, of the seeds that recorded it."""
    found: dict[int, pd.Series[float]] = {}
    for run in (run for run in study.runs if run.info["row"] == row):
        lines = {line["update"]: line[KL] for line in run.lines() if KL in line}
        found |= {run.info["seed"]: pd.Series(lines, dtype=float).dropna()} if lines else {}
    return found


def _distances(study: Study, ask: Ask, seeds: tuple[int, ...]) -> Floats | None:
    """(S, U) sqrt(KL); None where a seed lacks one."""
    by_seed = _recorded(study, ask.row)
    found = [by_seed.get(seed, pd.Series(dtype=float)).reindex(ask.updates).to_numpy(dtype=float) for seed in seeds]
    return np.sqrt(found) if np.isfinite(found).all() else None
