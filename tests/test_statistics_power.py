"""How many prompts and seeds an effect needs, against simulated tests that do not know the formula."""

from __future__ import annotations

import numpy as np
import pytest
from fake_scores import golds, memory_study
from numpy.typing import NDArray
from scipy import stats

from paper_tables.statistics.power import components, needed, power, sizes

Floats = NDArray[np.float64]
BASE, FLOW, GUARD = "sd3_base", "sd3_flow_text", "sd3_guard_text"


def crossed(seeds: int, prompts: int, sd: tuple[float, float, float], seed: int = 0) -> Floats:
    """(S, P) of the standard deviations of prompts, seeds and residual, each scaled to exactly that in the sample."""
    generator = np.random.default_rng(seed)
    of_prompts, of_seeds = generator.standard_normal(prompts), generator.standard_normal(seeds)
    rest = generator.standard_normal((seeds, prompts))
    rest += rest.mean() - rest.mean(0) - rest.mean(1, keepdims=True)
    rest *= sd[2] * ((seeds - 1) * (prompts - 1) / (rest**2).sum()) ** 0.5
    parts = [values - values.mean() for values in (of_prompts, of_seeds)]
    variances = (sd[0] ** 2 + sd[2] ** 2 / seeds, sd[1] ** 2 + sd[2] ** 2 / prompts)
    scaled = [part * (v / part.var(ddof=1)) ** 0.5 for part, v in zip(parts, variances, strict=True)]
    return scaled[0] + scaled[1][:, None] + rest


def test_components_are_those_of_the_analysis_of_variance() -> None:
    found = components(crossed(4, 30, (0.3, 0.1, 0.5)))
    np.testing.assert_allclose([found.prompts, found.seeds, found.residual], [0.09, 0.01, 0.25])


def test_with_the_prompts_it_asks_for_one_seed_finds_the_effect_in_eighty_percent() -> None:
    values, effect = crossed(2, 40, (0, 0, 0.2))[:1], 0.05
    number = sizes(values, effect).prompts
    assert number is not None
    drawn = np.random.default_rng(1).normal(effect, values.std(ddof=1), (20_000, number))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.012)


def test_with_the_seeds_it_asks_for_the_effect_is_found_in_eighty_percent() -> None:
    effect, prompts = 0.05, 400
    number = sizes(crossed(5, prompts, (0, 0.03, 0.001)), effect).seeds
    assert number is not None and number > 2
    generator = np.random.default_rng(2)
    found = [
        np.mean(stats.ttest_1samp(generator.normal(effect, 0.03, (20_000, n)), 0, axis=1).pvalue < 0.05)
        for n in (number, number - 1)
    ]
    assert found[0] > 0.79 and found[1] < 0.8


def test_what_no_number_of_prompts_or_seeds_can_do_is_said() -> None:
    seeds_apart = sizes(crossed(3, 50, (0, 0.2, 0.01)), 0.02)
    assert seeds_apart.prompts is None and "no number of prompts is enough with 3 seeds" in seeds_apart.reason
    prompts_apart = sizes(crossed(3, 50, (0.5, 0, 0.01)), 0.02)
    assert prompts_apart.seeds is None and "no number of seeds is enough with 50 prompts" in prompts_apart.reason


def test_one_seed_tells_nothing_of_seeds() -> None:
    found = sizes(crossed(3, 50, (0, 0, 0.2))[:1], 0.05)
    assert found.seeds is None and "cannot be told from one seed" in found.reason


@pytest.mark.parametrize("effect, values", [(0.0, np.ones((3, 9))), (np.nan, np.ones((3, 9))), (0.1, np.ones((3, 1)))])
def test_without_an_effect_or_prompts_there_is_no_number(effect: float, values: Floats) -> None:
    found = sizes(values, effect)
    assert (found.prompts, found.seeds) == (None, None) and "wanted an effect other than 0" in found.reason


def test_a_smaller_effect_needs_the_square_of_the_prompts() -> None:
    values = crossed(2, 200, (0, 0, 1.0))[:1]
    large, small = sizes(values, 0.1).prompts, sizes(values, 0.05).prompts
    assert large is not None and small is not None and small / large == pytest.approx(4, rel=0.01)


def test_what_two_rows_share_costs_no_prompts() -> None:
    generator = np.random.default_rng(0)
    hard, noise = generator.normal(0, 0.3, (40, 1)), generator.normal(0, 0.02, (40, 1))
    rows = {
        (BASE, 0): {0: golds(1 + hard)},
        (FLOW, 0): {40: golds(1 + hard)},
        (GUARD, 0): {40: golds(1.1 + hard + noise)},
    }
    found = power(memory_study(rows), GUARD, FLOW, 0.05)
    assert found.prompts is not None and found.prompts < 20
    assert power(memory_study(rows), "sd3_flow_pickscore", FLOW, 0.05).reason.startswith("no seed has")


def test_what_is_needed_is_said_in_words() -> None:
    generator, rows = np.random.default_rng(0), {}
    for seed in range(3):
        apart = generator.normal(0, 0.03)
        rows[BASE, seed] = {0: golds(np.ones((40, 1)))}
        rows[FLOW, seed] = {40: golds(np.ones((40, 1)))}
        rows[GUARD, seed] = {40: golds(1.02 + apart + generator.normal(0, 0.02, (40, 1)))}
    several, wanted = memory_study(rows), power(memory_study(rows), GUARD, FLOW, 0.05).seeds
    assert wanted is not None and needed(several, GUARD, FLOW, 0.05) == f"needs {wanted} seeds at 40 prompts"
    one = memory_study({key: at for key, at in rows.items() if key[1] == 0})
    assert needed(one, GUARD, FLOW, 0.05) == "cannot be told from one seed"
    assert needed(several, "sd3_flow_pickscore", FLOW, 0.05).startswith("cannot be told: no seed has")
    assert needed(several, GUARD, FLOW, 0).startswith("cannot be told: wanted an effect other than 0")
