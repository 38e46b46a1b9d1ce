"""What a row came to: its last scores, its difference from another row, and how often it beats the base model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import AcrossSeeds, Interval, interval, mean
from paper_tables.statistics.estimate import (
    AVERAGE,
    Ask,
    aligned,
    base_row,
    common_prompts,
    estimate,
    estimate_each,
    updates,
)
from paper_tables.statistics.panel import Panel

# Our choice: two prompt means of equal scores may differ by the rounding of their sums, which is no win.
TIE = 1e-9


@dataclass(frozen=True)
class Wins:
    """Shares of (prompt, seed) pairs.

    Attributes:
        of: gold scorer to the share of pairs that the row wins, ties as half.
        all_up, all_down: shares in which every gold is higher, lower (arXiv 2605.13155: joint domination, collapse).
    """

    of: dict[str, Interval]
    all_up: Interval
    all_down: Interval


def last(study: Study, row: str, key: str = AVERAGE) -> int | None:
    """The row's last update at which every seed has the measure; None where there is none."""
    return next(reversed(updates(study, row, key)), None)


def final(study: Study, row: str, key: str = AVERAGE, across_seeds: AcrossSeeds = mean) -> Interval | None:
    """The measure at the row's last evaluation; an Average is taken per seed, as the table does.

    Raises:
        ValueError: no measure is called `key`; so do all functions here.
    """
    return at(study, row, key, last(study, row, key), across_seeds)


def along(study: Study, row: str, key: str, steps: tuple[int, ...]) -> list[Interval] | None:
    """The measure at each of `steps`."""
    return estimate_each(study, [Ask(row, key, steps)], lambda level: level)


def at(study: Study, row: str, key: str, update: int | None, across_seeds: AcrossSeeds = mean) -> Interval | None:
    """The measure at one evaluation."""
    if update is None:
        return None
    return estimate(study, [Ask(row, key, (update,))], lambda level: level[..., 0], across_seeds)


def difference(
    study: Study, row: str, other: str, key: str = AVERAGE, across_seeds: AcrossSeeds = mean
) -> Interval | None:
    """`row` less `other` at their last evaluations, paired by prompt and seed."""
    asks = [Ask(name, key, (end,)) for name in (row, other) if (end := last(study, name, key)) is not None]
    if len(asks) < 2:
        return None
    return estimate(study, asks, lambda mine, theirs: (mine - theirs)[..., 0], across_seeds)


def wins(study: Study, row: str, other: str | None = None) -> Wins | None:
    """How often `row` beats `other`, the base model by default, at their last evaluations; None where one is missing.

    A pair is a prompt under a seed; what is compared are the means over its images. All up and all down are of the
    pairs that every gold judges.
    """
    other = other or base_row(study, row)
    gap = _gap(study, row, other) if other else None
    if gap is None:
        return None
    won = replace(gap, values=0.5 + np.sign(gap.values) / 2)
    each = {gold: _share(won.select([(0, gold)], won.seeds)) for gold in study.golds}
    judged = np.isfinite(gap.values).all(axis=2)
    up, down = (np.where(judged, (sign * gap.values > 0).all(axis=2), np.nan) for sign in (1, -1))
    return Wins(each, *(_share(replace(gap, values=all_[..., None], columns=((0, "all"),))) for all_ in (up, down)))


def _gap(study: Study, row: str, other: str) -> Panel | None:
    """`row` less `other` at their last evaluations, a column (0, gold) each."""
    asks, golds = [], study.golds
    for name in (row, other):
        end = last(study, name)
        if end is None:
            return None
        asks += [Ask(name, f"gold/{gold}", (end,)) for gold in golds]
    panels = aligned(study, asks)
    if panels is None:
        return None
    values = np.concatenate([panel.values for panel in panels], axis=2)
    gap = values[:, :, : len(golds)] - values[:, :, len(golds) :]
    gap[np.abs(gap) < TIE] = 0
    return replace(panels[0], values=gap, columns=tuple((0, gold) for gold in golds), parted=frozenset())


def _share(panel: Panel) -> Interval:
    """The mean of a panel's one column, its interval without what a share cannot be.

    Where all pairs agree, resampling them says nothing: the end is then Clopper and Pearson's, of as many prompts.
    """
    found = interval(lambda means: means[..., 0], *common_prompts([panel]))
    if found.value in (0, 1) and found.prompts:
        exact = binomtest(int(found.value) * found.prompts, found.prompts).proportion_ci(found.level)
        return replace(found, low=float(exact.low), high=float(exact.high))
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
