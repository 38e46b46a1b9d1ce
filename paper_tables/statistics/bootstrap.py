"""Intervals from resampled prompts and seeds.

Prompts and training seeds are crossed: every seed is judged on the same prompts. A resample draws prompts within
their stratum (those that the same scorers judge) and, where there are several, seeds, each once for all panels, so
that what two rows share cancels in their difference (the pigeonhole bootstrap: Owen 2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1).

The percentiles of few resampled seeds are far too narrow: three seeds leave out a third of the variance and know
nothing of its uncertainty. Hence the percentile interval is stretched about the value ("expanded percentile",
Hesterberg 2015, The American Statistician 69, section 4.2) to the half width of the t interval of two crossed random
factors: variance V = V_prompts + V_seeds - V_residual, degrees of freedom by Satterthwaite. With one seed V is
V_prompts, and the interval is one over prompts alone. `paper_tables.statistics.coverage` measures how often such
intervals, and those they were chosen over, hold the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy  # scipy.special alone: scipy.stats takes as long to import as pandas
from numpy.typing import NDArray

from paper_tables.statistics.panel import Floats, Judged, Panel, judged_by

RESAMPLES = 2000  # our choice: a half width's own error is then under 3 %
LEVEL = 0.95  # rliable's and the usual level
GENERATOR = 2007  # our choice: the same resamples in every call
ROUNDING = 1e-12  # our choice: relative spread of resamples that is one of rounding
USABLE = 0.9  # our choice: share of resamples in which a statistic must exist
PROMPTS: Literal["prompts"] = "prompts"
BOTH: Literal["prompts and seeds"] = "prompts and seeds"

Statistic = Callable[..., Floats]
AcrossSeeds = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Interval:
    """A value and where it may lie.

    Attributes:
        low, high: NaN where nothing can be said, as from one prompt.
        over: what was resampled; an interval over prompts says nothing of another training seed, nor does one over
            optimizer updates, which `paper_tables.claims` makes of diagnostics.
        prompts, seeds: how many.
        level: probability of holding the truth that is aimed at.
        update: the evaluation that the value is of, the row's own where two are compared; None where it is of several.
        of_seeds: the training seeds themselves.
        note: which seeds are left out and why, and which update was taken where planned numbers of updates differ.
    """

    value: float
    low: float
    high: float
    over: Literal["prompts", "prompts and seeds", "updates"]
    prompts: int
    seeds: int
    level: float = LEVEL
    update: int | None = None
    of_seeds: tuple[int, ...] = ()
    note: str = ""

    def display(self, decimals: int = 2) -> str:
        """As printed: "0.97 [0.94, 1.00]"; an end that rounds to 0 with a digit more, which tells its side."""
        low, high = (_printed(x, decimals + (round(x, decimals) == 0 != x)) for x in (self.low, self.high))
        return f"{_printed(self.value, decimals)} [{low}, {high}]"

    def excludes(self, x: float) -> bool:
        """Whether `x` lies outside; never where nothing can be said."""
        return self.low > x or self.high < x


@dataclass(frozen=True)
class Spread:
    """Variances of an estimate by source, and their degrees of freedom."""

    prompts: float
    seeds: float
    residual: float
    prompt_freedom: int
    seed_freedom: int

    @property
    def total(self) -> float:
        """Variance of the estimate; the residual is in both others, and no difference may go below the greater."""
        return max(self.prompts + self.seeds - self.residual, self.prompts, self.seeds)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of `total`."""
        parts = self.prompts**2 / self.prompt_freedom
        parts += self.seeds**2 / self.seed_freedom if self.seed_freedom else 0.0
        return self.total**2 / parts if parts else float("inf")


def mean(values: Floats) -> Floats:
    """(R, S) to (R,): the mean over seeds."""
    return np.asarray(values.mean(axis=-1))


def interquartile_mean(values: Floats) -> Floats:
    """(R, S) to (R,): the mean of the middle half of the seeds (rliable, Agarwal et al. 2021); the mean below four."""
    outer = values.shape[-1] // 4
    return mean(np.sort(values, axis=-1)[..., outer : values.shape[-1] - outer])


def interval(statistic: Statistic, *panels: Panel, across_seeds: AcrossSeeds = mean) -> Interval:
    """The interval of a statistic of panels that share prompts and seeds.

    Args:
        statistic: from one (R, S, C) array of column means per panel to (R, S).
        across_seeds: from (R, S) to (R,).

    Raises:
        ValueError: the panels do not share prompts and seeds.
    """
    return intervals(lambda *means: statistic(*means)[..., None], *panels, across_seeds=across_seeds)[0]


def intervals(statistic: Statistic, *panels: Panel, across_seeds: AcrossSeeds = mean) -> list[Interval]:
    """The same for K statistics at once, which share the resamples: from the means to (R, S, K)."""
    values, drawn = estimates(statistic, *panels)
    freedom = len(panels[0].prompts) - len(np.unique(strata(*panels)))
    return [_interval(values[:, k], drawn[:, :, k], freedom, panels[0], across_seeds) for k in range(values.shape[1])]


def estimates(statistic: Statistic, *panels: Panel) -> tuple[Floats, Floats]:
    """The statistic (S, ...) of the panels, and (R, S, ...) of their resamples."""
    if len({(panel.prompts, panel.seeds) for panel in panels}) != 1:
        raise ValueError("wanted panels of the same prompts and seeds, found others; align them first")
    counts = _counts(strata(*panels).tobytes())
    value = statistic(*(column_means(panel) for panel in panels))[0]
    return value, statistic(*(column_means(panel, counts) for panel in panels))


@lru_cache(maxsize=4)  # asked for twice for an interval
def strata(*panels: Panel) -> NDArray[np.int64]:
    """(P,) the stratum of each prompt: which scorers of which panel judge it, and its part."""
    judged: list[Judged] = []
    for panel in panels:
        seen = judged_by(panel)
        for scorer in dict.fromkeys(name for _, name in panel.columns):
            mine = [name == scorer for _, name in panel.columns]
            judged.append(np.asarray(seen[:, mine].any(axis=1)))
    known: dict[tuple[bytes, str], int] = {}
    patterns = zip(np.column_stack(judged), panels[0].parts, strict=True)
    labels = [known.setdefault((row.tobytes(), part), len(known)) for row, part in patterns]
    return np.array(labels, dtype=np.int64)


@lru_cache(maxsize=64)
def _counts(groups: bytes) -> Floats:
    """(R, P) how often each resample holds each prompt."""
    labels = np.frombuffer(groups, dtype=np.int64)
    generator = np.random.default_rng(GENERATOR)
    counts = np.zeros((RESAMPLES, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return counts


@lru_cache(maxsize=32)
def seed_draws(seeds: int) -> NDArray[np.int64]:
    """(R, S) which seeds each resample holds."""
    return np.random.default_rng([GENERATOR, seeds]).integers(seeds, size=(RESAMPLES, seeds))


def column_means(panel: Panel, counts: Floats | None = None) -> Floats:
    """(R, S, C) column means under counts (R, P) of the prompts, by default each once; parts count alike."""
    seeds, prompts, columns = panel.values.shape
    counts = np.ones((1, prompts)) if counts is None else counts
    known = np.isfinite(panel.values)
    weight = known * _weights(panel)
    flat = (prompts, seeds * columns)
    total = counts @ np.where(known, panel.values * weight, 0).transpose(1, 0, 2).reshape(flat)
    number = counts @ weight.transpose(1, 0, 2).reshape(flat)
    with np.errstate(invalid="ignore"):
        return np.asarray((total / number).reshape(-1, seeds, columns))


def _weights(panel: Panel) -> Floats:
    """(P, C): 1, but for a scorer of parts the inverse size of the prompt's part, to give the mean of parts' means."""
    parted = np.array([scorer in panel.parted for _, scorer in panel.columns], dtype=bool)
    if not parted.any():
        return np.ones((len(panel.prompts), len(panel.columns)))
    _, where, sizes = np.unique(panel.parts, return_inverse=True, return_counts=True)
    return np.where(parted, 1 / sizes[where][:, None], 1.0)


def _interval(value: Floats, drawn: Floats, freedom: int, panel: Panel, across_seeds: AcrossSeeds) -> Interval:
    """From the statistic (S,) and (R, S) of the resamples; without ends where these do not exist."""
    point, prompts, seeds = float(across_seeds(value[None])[0]), len(panel.prompts), len(panel.seeds)
    nothing = Interval(point, np.nan, np.nan, BOTH if seeds > 1 else PROMPTS, prompts, seeds, of_seeds=panel.seeds)
    finite = np.isfinite(drawn).all(axis=1)
    if freedom < 1 or not np.isfinite(point) or finite.mean() < USABLE:
        return nothing
    spread = spread_of(value, drawn[finite], across_seeds, prompts, freedom)
    chosen = np.take_along_axis(drawn, seed_draws(seeds), axis=1) if seeds > 1 else drawn
    low, high = _stretched(point, across_seeds(chosen[finite]), spread)
    return replace(nothing, low=low, high=high)


def spread_of(value: Floats, drawn: Floats, across_seeds: AcrossSeeds, prompts: int, freedom: int) -> Spread:
    """Variances of `across_seeds(value)`; a bootstrap variance lacks the factor n / (n - 1) of a sample's."""
    unbiased, seeds = prompts / freedom, len(value)
    of_prompts = float(across_seeds(drawn).var()) * unbiased
    if seeds == 1:
        return Spread(of_prompts, 0.0, 0.0, freedom, 0)
    of_seeds = float(across_seeds(value[seed_draws(seeds)]).var()) * seeds / (seeds - 1)
    apart = (drawn - drawn.mean(axis=1, keepdims=True)).var(axis=0).sum() / (seeds - 1)
    return Spread(of_prompts, of_seeds, float(apart) * unbiased / seeds, freedom, seeds - 1)


def _stretched(point: float, drawn: Floats, spread: Spread) -> tuple[float, float]:
    """The percentile interval, stretched about the point to the width of the t interval."""
    deviation = float(drawn.std())
    if deviation <= ROUNDING * abs(point):
        return point, point
    wanted = scipy.special.stdtrit(spread.freedom, (1 + LEVEL) / 2) * spread.total**0.5
    factor = wanted / (scipy.special.ndtri((1 + LEVEL) / 2) * deviation)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(point + factor * (low - point)), float(point + factor * (high - point))


def _printed(value: float, decimals: int) -> str:
    return "–" if np.isnan(value) else f"{round(value, decimals) + 0.0:.{decimals}f}"
