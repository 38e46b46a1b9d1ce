"""Gold at matched proxy, peaks and falls, areas, hacking and distance, on curves whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fake_scores import GOLDS, Scores, golds, memory_study

from paper_tables.frame import Study
from paper_tables.statistics import area_between, divergence, hacking, matched_gold, peak
from paper_tables.statistics.estimate import AVERAGE, Ask, aligned
from paper_tables.statistics.matching import gold_at, matched_difference

BASE, FLOW, GUARD = "sd3_base", "sd3_flow_text", "sd3_guard_text"
PROMPTS = 40
Curve = Sequence[tuple[float, float]]  # (proxy, gold average) by evaluation


def study(curves: dict[str, Curve], *, noise: float = 0.0, seeds: int = 1, seed: int = 0) -> Study:
    """Rows along these curves, evaluated every 20 updates; the base is at proxy 0.5, average 1 and golds of 0.8."""
    generator, runs = np.random.default_rng(seed), {}
    for number in range(seeds):
        hard = generator.normal(0, noise, (PROMPTS, 1))
        runs[BASE, number] = {0: _scores(0.5, 1.0, hard)}
        for row, curve in curves.items():
            extra = (generator.normal(0, noise / 2, (PROMPTS, 1)) if index else 0.0 for index in range(len(curve)))
            steps = enumerate(zip(curve, extra, strict=True))
            runs[row, number] = {20 * i: _scores(proxy, gold, hard + more) for i, ((proxy, gold), more) in steps}
    return memory_study(runs)


def _scores(proxy: float, gold: float, noise: np.ndarray) -> Scores:
    return golds(0.8 * gold + noise) | {"text": proxy + noise}


def test_two_runs_on_one_curve_at_different_speeds_have_equal_matched_gold() -> None:
    slow = [(0.5, 1.0), (0.55, 0.99), (0.6, 0.98), (0.65, 0.95), (0.7, 0.92)]
    fast = [(0.5, 1.0), (0.6, 0.98), (0.7, 0.92), (0.8, 0.8), (0.9, 0.5)]
    found = matched_gold(study({FLOW: fast, GUARD: slow}), GUARD, FLOW)
    assert found.interval is not None
    assert found.interval.value == pytest.approx(0, abs=1e-3) and (found.low, found.high) == pytest.approx((0.5, 0.7))
    straight = [(x, 1.5 - x) for x in (0.5, 0.53, 0.6, 0.9)]
    found = matched_gold(study({FLOW: straight, GUARD: [(x, 1.5 - x) for x in (0.5, 0.7, 0.75)]}), GUARD, FLOW)
    assert found.interval is not None and found.interval.value == pytest.approx(0, abs=1e-12)


def test_on_one_bent_curve_the_row_that_was_evaluated_more_often_is_not_above() -> None:
    def bent(*proxies: float) -> Curve:
        return [(0.5 + x, 1 - 3 * x**2) for x in (0, *proxies)]

    slow, fast = bent(0.04, 0.08, 0.12, 0.16, 0.2), bent(0.1, 0.19, 0.3)
    found = [matched_gold(study({FLOW: fast, GUARD: slow}), *rows).interval for rows in ((GUARD, FLOW), (FLOW, GUARD))]
    assert found[0] is not None and found[1] is not None
    assert abs(found[0].value) < 1.5e-3 and found[0].value == pytest.approx(-found[1].value)
    # a chord of the fast row over the whole range would be below by far more
    assert gold_at(np.array([0.55]), *np.array(fast).T)[0] < 1 - 3 * 0.05**2 - 7e-3
    jump = matched_gold(study({FLOW: bent(0.3), GUARD: slow}), GUARD, FLOW)
    assert jump.interval is None and "sd3_flow_text was never evaluated" in jump.reason


@pytest.mark.parametrize("seeds", [1, 3])
def test_gold_that_is_kept_at_equal_proxy_is_found(seeds: int) -> None:
    flow = [(0.5 + x, 1 - 2 * x) for x in (0, 0.075, 0.2)]
    guard = [(0.5 + x, 1 - x) for x in (0, 0.05, 0.1, 0.15)]
    found = matched_gold(study({FLOW: flow, GUARD: guard}, noise=0.02, seeds=seeds), GUARD, FLOW).interval
    assert found is not None and found.seeds == seeds
    assert found.low > 0 and found.value == pytest.approx(0.075, abs=0.02)


def test_gold_that_was_lost_and_regained_before_the_proxy_rose_again_is_passed_over() -> None:
    proxy, gold = np.array([0.5, 0.6, 0.55, 0.7]), np.array([1.0, 0.9, 0.1, 0.8])
    np.testing.assert_allclose(gold_at(np.array([0.5, 0.55, 0.6, 0.65, 0.7]), proxy, gold), [1, 0.95, 0.9, 0.85, 0.8])


def test_beyond_the_common_range_there_is_no_matched_difference() -> None:
    ones = np.ones(3)
    low, high = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    assert np.isnan(matched_difference(low, ones, high, ones))


def test_where_proxies_have_nothing_in_common_the_reason_is_said() -> None:
    rising, falling = [(0.5, 1.0), (0.6, 1.0)], [(0.5, 1.0), (0.4, 1.0)]
    some = study({FLOW: rising, GUARD: falling, "sd3_flow_pickscore": rising})
    assert "the proxy of sd3_guard_text never rises above its start" in matched_gold(some, GUARD, FLOW).reason
    assert "not trained on one proxy" in matched_gold(some, GUARD, "sd3_flow_pickscore").reason
    assert "or not run" in matched_gold(some, "ablation_ratio_norm", FLOW).reason
    alone = Study("tiny", tuple(run for run in some.runs if run.info["row"] != BASE))
    assert "no seed has evaluations" in matched_gold(alone, GUARD, FLOW).reason


def test_the_area_between_is_per_update() -> None:
    flat, above, growing = ([(0.5, 1 + d) for d in ds] for ds in ((0, 0, 0), (0.1, 0.1, 0.1), (0, 0.1, 0.2)))
    some = study({FLOW: flat, GUARD: above, "ablation_ratio_norm": growing})
    for row, wanted in ((GUARD, 0.1), ("ablation_ratio_norm", 0.1)):
        found = area_between(some, row, FLOW)
        assert found is not None and found.value == pytest.approx(wanted)
    assert area_between(study({FLOW: flat[:1], GUARD: above[:1]}), GUARD, FLOW) is None


def test_a_peak_and_the_fall_from_it_are_found() -> None:
    some = study({FLOW: [(0.5, 1.0), (0.6, 1.2), (0.7, 1.1), (0.8, 0.9)]}, noise=0.03)
    found = peak(some, FLOW)
    assert found is not None and found.update == 20
    assert found.fall.value == pytest.approx(0.3, abs=0.03) and found.fall.low > 0.2
    assert peak(some, BASE) is None


def test_choosing_the_peak_and_measuring_it_on_the_same_prompts_would_find_a_fall_where_there_is_none() -> None:
    fair, naive = [], []
    for seed in range(20):
        some = study({FLOW: [(0.5, 1.0)] * 5}, noise=0.3, seed=seed)
        found = peak(some, FLOW)
        assert found is not None
        fair.append(found.fall.value)
        naive.append(found.value - divergence(some, FLOW)["gold/average"].iloc[-1])
    errors = [np.std(falls) / len(falls) ** 0.5 for falls in (fair, naive)]
    assert abs(np.mean(fair)) < 2.5 * errors[0]
    assert np.mean(naive) > 4 * errors[1]


def test_a_fall_that_was_never_seen_is_not_certain_to_be_none() -> None:
    found = peak(study({FLOW: [(0.5, 1.0), (0.6, 1.1), (0.7, 1.3)]}, noise=0.03), FLOW)
    assert found is not None and found.update == 40 and found.fall.value == 0
    assert np.isnan([found.fall.low, found.fall.high]).all() and not found.fall.excludes(0.1)


def test_the_step_of_the_peak_is_chosen_anew_in_every_resample() -> None:
    # both halves choose the last evaluation, but hardly: other prompts would have chosen another
    widths = []
    for seed in range(20):
        found = peak(study({FLOW: [(0.5, 1.0), (0.6, 1.0), (0.7, 1.02)]}, noise=0.15, seed=seed), FLOW)
        assert found is not None
        widths += [found.fall.high - found.fall.low] if found.fall.value == 0 else []
    assert len(widths) > 3 and np.mean(np.array(widths) > 0) > 0.9


def test_halves_are_of_the_same_prompts_in_every_panel() -> None:
    """A prompt that the base model alone was not judged on moves no other prompt to the other half."""
    values, lacking = np.ones((9, 1)), np.ones((9, 1))
    lacking[2] = np.nan
    some = memory_study({(BASE, 0): {0: golds(values)}, (FLOW, 0): {0: golds(lacking), 20: golds(lacking)}})
    asks = [Ask(FLOW, AVERAGE, (0, 20), half) for half in (0, 1)]
    panels = aligned(some, asks)
    assert panels is not None
    kept = [set(np.flatnonzero(np.isfinite(panel.values).any(axis=(0, 2)))) for panel in panels]
    assert kept[0] == kept[1] - {2} and kept[2] == kept[3] - {2} and not kept[1] & kept[3]
    assert kept[1] | kept[3] == set(range(9))


def test_hacking_is_a_proxy_above_and_gold_below_the_base_beyond_doubt() -> None:
    curve = [(0.5, 1.0), (0.6, 1.1), (0.7, 0.8), (0.7, 0.999), (0.4, 0.8)]
    found = hacking(study({FLOW: curve}, noise=0.05), FLOW)
    assert found["update"].tolist() == [0, 20, 40, 60, 80]
    assert found["flag"].tolist() == ["no", "no", "yes", "unclear", "no"]
    np.testing.assert_allclose(found["proxy_gain"], [0, 0.1, 0.2, 0.2, -0.1], atol=0.03)
    np.testing.assert_allclose(found["gold_gain"], [0, 0.1, -0.2, 0, -0.2], atol=0.03)
    assert hacking(study({FLOW: curve}), BASE).empty and hacking(study({FLOW: curve}), GUARD).empty


def test_distance_is_the_root_of_the_kl_where_it_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    some = study({FLOW: [(0.5, 1.0), (0.6, 0.9)]}, seeds=2)
    assert np.isnan(divergence(some, FLOW)["sqrt_kl"]).all()
    for number, run in enumerate(some.runs):
        lines = [line | {"kl/base": (2.0 * (number % 2) + 3) * i} for i, line in enumerate(run.lines())]
        monkeypatch.setitem(run.__dict__, "lines", lambda lines=lines: lines)
    flow = [run for run in some.runs if run.info["row"] == FLOW]
    kl = np.mean([run.metrics()["kl/base"].iloc[1] for run in flow])
    found = divergence(some, FLOW)
    np.testing.assert_allclose(found["sqrt_kl"], [0, kl**0.5])
    np.testing.assert_allclose(found[["gold/average", "proxy"]], [[1, 0.5], [0.9, 0.6]])


def test_golds_weigh_alike_in_the_average() -> None:
    start, last = golds(np.full((6, 1), 0.5)), dict(zip(GOLDS, np.full((3, 6, 1), 0.5), strict=True))
    last[GOLDS[2]] = np.full((6, 1), 0.8)
    found = divergence(memory_study({(BASE, 0): {0: start}, (FLOW, 0): {0: start, 20: last}}), FLOW)
    np.testing.assert_allclose(found["gold/average"], [1, (1 + 1 + 1.6) / 3])
