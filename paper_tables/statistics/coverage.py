"""How often the intervals hold the truth, over simulated studies whose truth is known.

    python -m paper_tables.statistics.coverage      # makes data/coverage.csv again: some minutes

A study is a crossed layout of mean 0: score = prompt effect + seed effect + residual. Beside the interval that is used
stand those it was chosen over: the plain percentiles of the same resamples, and the symmetric t interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from paper_tables.statistics.bootstrap import LEVEL, estimates, interval, mean, seed_draws, spread_of
from paper_tables.statistics.panel import Floats, Panel

FILE = Path(__file__).parents[1] / "data" / "coverage.csv"
SEEDS = (1, 2, 3, 5, 10)
STUDIES = 1000
FIRST = 100  # of them, counted apart, so that a test can make them again
PROMPTS = 96  # those of the tiny scale's evaluation set


@dataclass(frozen=True)
class World:
    """Standard deviations of the effects; `skewed` prompts are exponential.

    With three seeds the seeds' part of the mean's variance is the prompts' part where `seeds` is
    sqrt(3 / 96) = 0.18 times `prompts`.
    """

    prompts: float
    seeds: float
    residual: float
    prompt_number: int = PROMPTS
    skewed: bool = False


# Our choice: from seeds that do nothing to seeds that are nearly all of the variance.
WORLDS = {
    "seeds do nothing": World(1, 0, 1),
    "seeds as prompts": World(1, 0.18, 1),
    "seeds before prompts": World(1, 0.5, 1),
    "skewed prompts": World(1, 0.18, 1, skewed=True),
    "residual alone": World(0.2, 0.05, 1),
    "few prompts": World(1, 0.18, 1, prompt_number=24),
}


def study(world: World, seeds: int, number: int) -> Panel:
    """The panel of one simulated study; one seed has no seed effect, since its interval is one for that seed."""
    generator = np.random.default_rng([seeds, number])
    size = world.prompt_number
    prompts = generator.exponential(size=size) - 1 if world.skewed else generator.standard_normal(size)
    of_seeds = generator.standard_normal((seeds, 1)) if seeds > 1 else 0.0
    values = world.prompts * prompts + world.seeds * of_seeds
    values = values + world.residual * generator.standard_normal((seeds, size))
    names = tuple(map(str, range(size)))
    return Panel(values[:, :, None], ((0, "score"),), tuple(range(seeds)), names, ("",) * size)


def holds(world: World, seeds: int, number: int) -> bool:
    """Whether the interval that is used holds the truth of a simulated study."""
    found = interval(first, study(world, seeds, number))
    return found.low <= 0 <= found.high


def first(means: Floats) -> Floats:
    """The statistic: the one column's mean."""
    return means[..., 0]


def percentile(panel: Panel) -> tuple[float, float]:
    """The plain percentiles of the pigeonhole bootstrap."""
    seeds = len(panel.seeds)
    drawn = mean(np.take_along_axis(estimates(first, panel)[1], seed_draws(seeds), axis=1))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def crossed_t(panel: Panel) -> tuple[float, float]:
    """The symmetric t interval of two crossed random factors."""
    value, drawn = estimates(first, panel)
    spread = spread_of(value, drawn, mean, len(panel.prompts), len(panel.prompts) - 1)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, spread.freedom)) * spread.total**0.5
    return float(value.mean()) - half, float(value.mean()) + half


def measure(studies: int = STUDIES) -> pd.DataFrame:
    """Coverage by world and number of seeds: a line each."""
    lines = []
    for name, world in WORLDS.items():
        for seeds in SEEDS:
            held = [holds(world, seeds, number) for number in range(studies)]
            line = {"world": name, "seeds": seeds, "prompts": world.prompt_number, "studies": studies}
            line |= {"used": sum(held) / studies, "used_held_of_first": sum(held[:FIRST])}
            others: tuple[Callable[[Panel], tuple[float, float]], ...] = (percentile, crossed_t)
            for other in others:
                ends = (other(study(world, seeds, number)) for number in range(studies))
                line[other.__name__] = sum(low <= 0 <= high for low, high in ends) / studies
            lines.append(line)
    return pd.DataFrame(lines)


@lru_cache(maxsize=1)
def measured() -> pd.DataFrame:
    """What `measure` found, from the file beside the code."""
    return pd.read_csv(FILE)


def coverage_at(seeds: int) -> float:
    """Share of simulated studies whose interval of a mean held the truth, at that number of seeds.

    Of the worst of six worlds; about what to expect, no bound: worlds may be worse, and so may other statistics be.

    Of the next smaller number where that one was not simulated.

    Raises:
        ValueError: fewer seeds than one.
    """
    if seeds < 1:
        raise ValueError(f"wanted one seed or more, found {seeds}")
    frame = measured()
    nearest = max(number for number in SEEDS if number <= seeds)
    return float(frame.loc[frame["seeds"] == nearest, "used"].min())


def held_in(seeds: int, what: str) -> str:
    """How often `what` held the truth where that was known; of one the truth about what was trained."""
    truth = "the truth about what was trained, not about another training run," if seeds == 1 else "the truth"
    return f"in simulated studies with as many seeds {what} held {truth} in about {100 * coverage_at(seeds):.0f} %"


if __name__ == "__main__":
    found = measure()
    found.to_csv(FILE, index=False, lineterminator="\n")
    print(found.to_string(index=False))
