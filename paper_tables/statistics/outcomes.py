"""What a row came to: its last scores, its difference from another row, and how often it beats the base model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import PROMPTS, AcrossSeeds, Interval, interval, mean
from paper_tables.statistics.estimate import (
    AVERAGE,
    Ask,
    Combine,
    aligned,
    base_row,
    common_prompts,
    ends,
    estimate,
    estimate_each,
    left_out,
    scorers,
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


def final(study: Study, row: str, key: str = AVERAGE, across_seeds: AcrossSeeds = mean) -> Interval | None:
    """The measure at the row's planned end, of the seeds that have it; an Average is per seed, as in the table.

    Raises:
        ValueError: no measure is called `key`; so do all functions here.
    """
    return _at_the_end(study, (row,), key, lambda level: level[..., 0], across_seeds)


def along(study: Study, row: str, key: str, steps: tuple[int, ...]) -> list[Interval] | None:
    """The measure at each of `steps`."""
    return estimate_each(study, [Ask(row, key, steps)], lambda level: level)


def difference(
    study: Study, row: str, other: str, key: str = AVERAGE, across_seeds: AcrossSeeds = mean
) -> Interval | None:
    """`row` less `other` at an equal number of updates, paired by prompt and seed; see `ends`."""
    return _at_the_end(study, (row, other), key, lambda mine, theirs: (mine - theirs)[..., 0], across_seeds)


def _at_the_end(
    study: Study, names: tuple[str, ...], key: str, combine: Combine, across_seeds: AcrossSeeds
) -> Interval | None:
    for name in names:
        scorers(study, name, key)  # a key that is none is refused whatever was judged
    end = ends(study, *names)
    if end is None:
        return None
    asks = [Ask(name, key, (update,)) for name, update in zip(names, end[0], strict=True)]
    found = estimate(study, asks, combine, across_seeds)
    return _told(found, end) if found else None


def _told(found: Interval, end: tuple[tuple[int, ...], str], left: str = "") -> Interval:
    """The interval with its update and the notes of its end and of seeds that were left out."""
    return replace(found, update=end[0][0], note="; ".join(filter(None, (end[1], found.note or left))))


def wins(study: Study, row: str, other: str | None = None) -> Wins | None:
    """How often `row` beats `other`, the base model by default, at their ends; None where one is missing.

    A pair is a prompt under a seed; what is compared are the means over its images. All up and all down are of the
    pairs that every gold judges.
    """
    other = other or base_row(study, row)
    end = ends(study, row, other) if other else None
    if end is None or other is None:
        return None
    pairs = zip((row, other), end[0], strict=True)
    asks = [Ask(name, f"gold/{gold}", (update,)) for name, update in pairs for gold in study.golds]
    gap = _gap(study, asks)
    if gap is None:
        return None
    left = left_out(study, asks, gap.seeds)
    won = replace(gap, values=0.5 + np.sign(gap.values) / 2)
    each = {gold: _told(_share(won.select([(0, gold)], won.seeds)), end, left) for gold in study.golds}
    judged = np.isfinite(gap.values).all(axis=2)
    up, down = (np.where(judged, (sign * gap.values > 0).all(axis=2), np.nan) for sign in (1, -1))
    both = (_share(replace(gap, values=all_[..., None], columns=((0, "all"),))) for all_ in (up, down))
    return Wins(each, *(_told(share, end, left) for share in both))


def _gap(study: Study, asks: list[Ask]) -> Panel | None:
    """Of asks for the golds of one row and then of another, the differences, a column (0, gold) each."""
    golds = study.golds
    panels = aligned(study, asks)
    if panels is None:
        return None
    values = np.concatenate([panel.values for panel in panels], axis=2)
    gap = values[:, :, : len(golds)] - values[:, :, len(golds) :]
    gap[np.abs(gap) < TIE] = 0
    return replace(panels[0], values=gap, columns=tuple((0, gold) for gold in golds), parted=frozenset())


def _share(panel: Panel) -> Interval:
    """The mean of a panel's one column, its interval without what a share cannot be.

    Where all pairs agree, resampling them says nothing: the end is then Clopper and Pearson's, of as many prompts,
    and the interval one over prompts.
    """
    found = interval(lambda means: means[..., 0], *common_prompts([panel]))
    if found.value in (0, 1) and found.prompts:
        far = ((1 - found.level) / 2) ** (1 / found.prompts)  # all of n pairs agree with this probability of one
        low, high = (far, 1.0) if found.value else (0.0, 1 - far)
        return replace(found, low=low, high=high, over=PROMPTS)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
