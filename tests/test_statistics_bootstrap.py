"""How wide intervals are, how often they hold the truth, and what they say they are over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from paper_tables.statistics import coverage
from paper_tables.statistics.bootstrap import (
    Interval,
    column_means,
    estimates,
    interquartile_mean,
    interval,
    intervals,
)
from paper_tables.statistics.panel import Panel

Floats = NDArray[np.float64]
only = coverage.first


def of(values: Floats, *, scorers: tuple[str, ...] = ("a",)) -> Panel:
    """The panel of (S, P) or (S, P, C) values."""
    values = np.asarray(values, dtype=float)
    values = values[..., None] if values.ndim == 2 else values
    seeds, prompts, _ = values.shape
    columns = tuple((0, name) for name in scorers)
    return Panel(values, columns, tuple(range(seeds)), tuple(map(str, range(prompts))), ("",) * prompts)


def width(found: Interval) -> float:
    return found.high - found.low


def normal(*shape: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_over_a_thousand_studies_of_one_seed_intervals_over_prompts_hold_the_truth_in_93_to_97_percent() -> None:
    world = coverage.WORLDS["seeds as prompts"]
    held = sum(coverage.holds(world, 1, number) for number in range(1000))
    assert 930 <= held <= 970
    frame = coverage.measured().set_index(["world", "seeds"])
    assert held / 1000 == frame.loc[("seeds as prompts", 1), "used"]


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_coverage_that_is_printed_comes_out_again(seeds: int) -> None:
    name = "seeds before prompts"
    frame = coverage.measured().set_index(["world", "seeds"])
    held = sum(coverage.holds(coverage.WORLDS[name], seeds, number) for number in range(coverage.FIRST))
    assert held == frame.loc[(name, seeds), "used_held_of_first"]


def test_the_interval_used_covers_where_plain_percentiles_of_three_seeds_do_not() -> None:
    frame = coverage.measured()
    three = frame[(frame["world"] == "seeds before prompts") & (frame["seeds"] == 3)].iloc[0]
    assert three["percentile"] < 0.86 and three["used"] > 0.91
    assert (abs(frame.loc[frame["seeds"] != 2, "used"] - 0.95) <= 0.035).all()
    assert coverage.coverage_at(2) == 0.886  # two seeds are too few, and that is what is printed beside them
    assert coverage.coverage_at(4) == coverage.coverage_at(3) == frame[frame["seeds"] == 3]["used"].min()


def test_a_paired_difference_is_narrower_by_the_square_root_of_one_less_the_correlation() -> None:
    rho, first, second = 0.8, *np.linalg.qr(normal(400, 3) - normal(400, 3).mean(0))[0].T[:2]
    mine, theirs = of(first[None]), of((rho * first + (1 - rho**2) ** 0.5 * second)[None])
    together = interval(lambda a, b: (a - b)[..., 0], mine, theirs)
    alone = np.hypot(width(interval(only, mine)), width(interval(only, theirs)))
    assert width(together) / alone == pytest.approx((1 - rho) ** 0.5, rel=0.04)


def test_with_one_seed_it_is_the_t_interval_over_prompts() -> None:
    found = interval(only, of(normal(1, 30)))
    half = stats.t.ppf(0.975, 29) * normal(1, 30).std(ddof=1) / 30**0.5
    assert width(found) / 2 == pytest.approx(half, rel=0.04)


def test_where_only_seeds_differ_it_is_the_t_interval_over_seeds() -> None:
    values = np.repeat(normal(5, 1), 40, axis=1)
    found = interval(only, of(values))
    half = stats.t.ppf(0.975, 4) * values[:, 0].std(ddof=1) / 5**0.5
    assert width(found) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("seeds, over", [(1, "prompts"), (2, "prompts and seeds"), (3, "prompts and seeds")])
def test_an_interval_says_over_what_it_is(seeds: int, over: str) -> None:
    found = interval(only, of(normal(seeds, 20)))
    assert (found.over, found.seeds, found.prompts, found.level) == (over, seeds, 20, 0.95)


def test_another_seed_widens_what_prompts_alone_would_say() -> None:
    noise, apart = normal(1, 50), np.array([[-0.5], [0.0], [0.5]])
    assert width(interval(only, of(noise + apart))) > 3 * width(interval(only, of(np.repeat(noise, 3, axis=0))))


def test_resamples_are_the_same_in_every_call_and_in_company() -> None:
    panel = of(normal(3, 20, 2), scorers=("a", "b"))
    both = intervals(lambda means: means, panel)
    assert both == intervals(lambda means: means, panel)
    assert both == [interval(lambda means, k=k: means[..., k], panel) for k in (0, 1)]


def test_a_resample_keeps_the_number_of_prompts_of_every_kind() -> None:
    objects, texts = np.r_[np.ones(36), np.full(4, np.nan)], np.r_[np.full(36, np.nan), np.ones(4)]
    kinds = np.r_[np.zeros(36), np.ones(4)]
    panel = of(np.stack([objects, texts, kinds], axis=-1)[None], scorers=("geneval", "text", "both"))
    _, drawn = estimates(lambda means: means, panel)
    np.testing.assert_array_equal(drawn[:, 0], np.tile([1, 1, 0.1], (len(drawn), 1)))


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_scores_have_an_interval_of_no_width(seeds: int) -> None:
    found = interval(only, of(np.full((seeds, 10), 0.3)))
    assert found.value == pytest.approx(0.3) and width(found) == 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_one_prompt_nothing_is_said(seeds: int) -> None:
    found = interval(only, of(normal(seeds, 1)))
    assert np.isnan([found.low, found.high]).all() and not found.excludes(1e9)
    assert found.display(1).endswith("[–, –]")


@pytest.mark.parametrize("share, told", [(0.05, True), (0.3, False)])
def test_a_statistic_that_few_resamples_have_has_no_ends(share: float, told: bool) -> None:
    def often_missing(means: Floats) -> Floats:
        lost = np.arange(len(means))[:, None] < share * len(means)
        return np.where(lost & (len(means) > 1), np.nan, means[..., 0])

    found = interval(often_missing, of(normal(1, 30)))
    assert np.isfinite(found.low) == told and np.isfinite(found.value)


def test_panels_of_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted panels of the same prompts and seeds"):
        interval(lambda a, b: (a - b)[..., 0], of(normal(1, 5)), of(normal(1, 6)))


def test_the_interquartile_mean_leaves_out_the_seed_that_went_astray() -> None:
    values = np.repeat([[1.0], [2.0], [3.0], [100.0]], 6, axis=1)
    assert interval(only, of(values), across_seeds=interquartile_mean).value == 2.5
    assert interval(only, of(values[:3]), across_seeds=interquartile_mean).value == pytest.approx(2)


def test_an_interval_is_printed_as_people_write_it() -> None:
    found = Interval(0.9666, -0.004, 1.0, "prompts", 5, 1)
    assert found.display(2) == "0.97 [-0.004, 1.00]"
    assert replace(found, low=0.0034, high=-0.0004).display(2) == "0.97 [0.003, 0.000]"
    assert replace(found, value=-0.001, low=0.0).display(2) == "0.00 [0.00, 1.00]"
    assert found.excludes(1.01) and found.excludes(-0.01) and not found.excludes(0.5)


def test_column_means_leave_out_what_is_not_judged() -> None:
    assert column_means(of(np.array([[1.0, np.nan, 3.0]])))[0, 0, 0] == 2


def test_fewer_seeds_than_one_have_no_coverage() -> None:
    with pytest.raises(ValueError, match="wanted one seed or more, found 0"):
        coverage.coverage_at(0)
