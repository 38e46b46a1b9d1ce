"""How many prompts and seeds would resolve an effect, given the variance that was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from paper_tables.frame import Study
from paper_tables.statistics.estimate import AVERAGE, Ask, aligned, ends
from paper_tables.statistics.panel import Floats, Panel

SIZE, POWER = 0.05, 0.8  # two-sided test and its power: Cohen 1988's convention
MOST = 100_000  # our choice: more prompts or seeds than that is no


@dataclass(frozen=True)
class Power:
    """What a two-sided test at 5 % needs to find the effect with a probability of 80 %.

    Attributes:
        prompts: at the present number of seeds; None where no number is enough.
        seeds: at the present number of prompts; None where no number is enough, or it cannot be told.
        reason: what the numbers rest on, and why one is None.
    """

    prompts: int | None
    seeds: int | None
    reason: str


@dataclass(frozen=True)
class Components:
    """Variances of one crossed layout (analysis of variance, two random factors without replication)."""

    prompts: float
    seeds: float
    residual: float

    def of_mean(self, prompts: int, seeds: int) -> float:
        """Variance of the mean over so many prompts and seeds."""
        return self.prompts / prompts + self.seeds / seeds + self.residual / (prompts * seeds)


def power(study: Study, row: str, other: str, effect: float) -> Power:
    """Prompts and seeds that resolve a difference of `effect` between the gold averages of two rows.

    From the variance components of the difference per prompt and seed, to first order in the scores. With one seed
    the prompts are those that resolve it for that seed alone.
    """
    values = _between(study, row, other)
    if values is None:
        return Power(None, None, f"no seed has {row}, {other} and their base model")
    return sizes(values, effect)


def needed(study: Study, row: str, other: str, effect: float) -> str:
    """In words: "needs N seeds at P prompts", or why that cannot be said."""
    values = _between(study, row, other)
    if values is None:
        return f"cannot be told: no seed has {row}, {other} and their base model"
    if len(values) < 2:
        return "cannot be told from one seed"
    found, prompts = sizes(values, effect), int(np.isfinite(values).all(axis=0).sum())
    if found.seeds is None:
        return f"cannot be told: {found.reason}"
    return f"needs {found.seeds} seeds at {prompts} prompts"


def _between(study: Study, row: str, other: str) -> Floats | None:
    """(S, P) contributions of prompts to the difference of the gold averages of two rows; None where there is none."""
    end = ends(study, row, other)
    if end is None:
        return None
    panels = aligned(study, [Ask(name, AVERAGE, (at,)) for name, at in zip((row, other), end[0], strict=True)])
    return None if panels is None else differences(panels)


def differences(panels: tuple[Panel, ...]) -> Floats:
    """(S, P) first-order contributions of prompts to (row - other) / base, averaged over golds.

    Args:
        panels: row, its base, other, its base; a column for each gold.
    """
    mine, base, theirs, _ = (panel.values for panel in panels)
    gap, center = mine - theirs, np.nanmean(base, axis=1, keepdims=True)
    whole = np.nanmean(gap, axis=1, keepdims=True) / center
    return np.asarray(np.nanmean(gap / center - whole * (base - center) / center, axis=2))


def sizes(values: Floats, effect: float) -> Power:
    """The prompts and seeds that resolve an effect in a mean over (S, P) values."""
    values = values[:, np.isfinite(values).all(axis=0)]
    seeds, prompts = values.shape
    if effect == 0 or not np.isfinite(effect) or prompts < 2:
        return Power(None, None, f"wanted an effect other than 0 and two prompts or more, found {effect} and {prompts}")
    if seeds < 2:
        found = Components(float(values.var(ddof=1)), 0.0, 0.0)
        enough = _least(lambda n: _resolves(found.of_mean(n, 1), n - 1, effect))
        return Power(enough, None, "prompts for this seed alone; the number of seeds cannot be told from one seed")
    found = components(values)
    of_prompts = _least(lambda n: _resolves(found.of_mean(n, seeds), _freedom(found, n, seeds), effect))
    of_seeds = _least(lambda n: _resolves(found.of_mean(prompts, n), _freedom(found, prompts, n), effect))
    return Power(of_prompts, of_seeds, _reason(found, of_prompts, of_seeds, prompts, seeds))


def components(values: Floats) -> Components:
    """Of (S, P) values, S and P at least 2; a negative estimate counts as none."""
    seeds, prompts = values.shape
    by_seed, by_prompt = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_prompt[None] + values.mean()
    residual = float((rest**2).sum() / ((seeds - 1) * (prompts - 1)))
    of_prompts = float(by_prompt.var(ddof=1)) - residual / seeds
    of_seeds = float(by_seed.var(ddof=1)) - residual / prompts
    return Components(max(of_prompts, 0.0), max(of_seeds, 0.0), residual)


def _freedom(found: Components, prompts: int, seeds: int) -> float:
    """Satterthwaite's degrees of freedom of a mean over so many."""
    share = found.residual / (prompts * seeds)
    parts = (found.prompts / prompts + share) ** 2 / (prompts - 1) + (found.seeds / seeds + share) ** 2 / (seeds - 1)
    return found.of_mean(prompts, seeds) ** 2 / parts if parts else np.inf


def _resolves(variance: float, freedom: float, effect: float) -> bool:
    """Whether a t test finds the effect with the power that is asked for."""
    if variance == 0:
        return True
    critical = scipy.special.stdtrit(freedom, 1 - SIZE / 2)
    missed = scipy.special.nctdtr(freedom, abs(effect) / variance**0.5, critical)  # by a noncentral t, to that side
    return bool(1 - missed >= POWER)


def _least(enough: Callable[[int], bool]) -> int | None:
    """The least number from 2 on that is enough, of what is enough from some number on."""
    if not enough(MOST):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _reason(found: Components, of_prompts: int | None, of_seeds: int | None, prompts: int, seeds: int) -> str:
    sd = ", ".join(f"{name} {getattr(found, name) ** 0.5:.3f}" for name in ("prompts", "seeds", "residual"))
    words = [f"standard deviations from {prompts} prompts and {seeds} seeds: {sd}"]
    words += [f"no number of prompts is enough with {seeds} seeds"] if of_prompts is None else []
    words += [f"no number of seeds is enough with {prompts} prompts"] if of_seeds is None else []
    return "; ".join(words)
