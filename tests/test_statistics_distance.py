"""Gold against the distance from the base model, on curves whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_scores import GOLDS, Memory, Scores, golds, memory_study

from bench.ledger import Run
from paper_tables.claims import evaluate
from paper_tables.frame import Study
from paper_tables.statistics import difference, difference_at_distance, divergence
from paper_tables.statistics.estimate import AVERAGE

BASE, FLOW, GUARD = "sd3_base", "sd3_flow_text", "sd3_guard_text"
PROMPTS = 40
Curve = Sequence[tuple[float, float]]  # (distance, gold average) by evaluation


class Far(Memory):
    """A run that has recorded its KL to the base model, in nats."""

    kl: Mapping[int, float] = {}

    def lines(self) -> list[dict[str, Any]]:
        """As `Run.lines`."""
        return [line | {"kl/base": self.kl[line["update"]]} for line in super().lines()]


def study(*by_seed: Mapping[str, Curve], noise: float = 0.0, recorded: bool = True) -> Study:
    """Rows along these curves under one seed after the other, evaluated every 20 updates."""
    generator, runs, distances = np.random.default_rng(0), {}, {}
    hard = generator.normal(0, noise, (PROMPTS, 1))
    for seed, rows in enumerate(by_seed):
        runs[BASE, seed] = {0: _scores(1.0, hard)}
        for row, curve in rows.items():
            runs[row, seed] = {
                20 * i: _scores(gold, hard + generator.normal(0, noise / 4 * (i > 0), (PROMPTS, 1)))
                for i, (_, gold) in enumerate(curve)
            }
            distances[row, seed] = {20 * i: x**2 for i, (x, _) in enumerate(curve)}
    found = memory_study(runs)
    return replace(found, runs=tuple(_far(run, distances) for run in found.runs)) if recorded else found


def _far(run: Run, distances: Mapping[tuple[str, int], Mapping[int, float]]) -> Memory:
    assert isinstance(run, Memory)
    far = Far(run.path, run.info, run.status, run.at)
    object.__setattr__(far, "kl", distances.get((run.info["row"], run.info["seed"]), {0: 0.0}))
    return far


def _scores(gold: float, noise: np.ndarray) -> Scores:
    return golds(0.8 * gold + noise) | {"text": 0.5 + noise}


def line(slope: float, *distances: float) -> Curve:
    """Gold that falls from 1 by `slope` per unit of distance."""
    return [(x, 1 - slope * x) for x in (0.0, *distances)]


def test_distance_is_the_root_of_the_kl_where_it_was_recorded() -> None:
    curves = [{FLOW: [(0.0, 1.0), (x, 0.9)]} for x in (1.5, 2.0)]
    assert np.isnan(divergence(study(*curves, recorded=False), FLOW)["sqrt_kl"]).all()
    found = divergence(study(*curves), FLOW)
    np.testing.assert_allclose(found["sqrt_kl"], [0, ((1.5**2 + 2.0**2) / 2) ** 0.5])
    np.testing.assert_allclose(found[AVERAGE], [1, 0.9])


def test_golds_weigh_alike_in_the_average() -> None:
    start, last = golds(np.full((6, 1), 0.5)), dict(zip(GOLDS, np.full((3, 6, 1), 0.5), strict=True))
    last[GOLDS[2]] = np.full((6, 1), 0.8)
    found = divergence(memory_study({(BASE, 0): {0: start}, (FLOW, 0): {0: start, 20: last}}), FLOW)
    np.testing.assert_allclose(found["gold/average"], [1, (1 + 1 + 1.6) / 3])


def test_a_method_that_only_moves_less_has_no_more_gold_at_equal_distance() -> None:
    some = study({FLOW: line(0.03, 3, 6, 9), GUARD: line(0.03, 1, 2, 4)})
    assert difference(some, GUARD, FLOW, AVERAGE).value == pytest.approx(0.03 * (9 - 4))
    found = difference_at_distance(some, GUARD, FLOW)
    assert found.interval is not None and found.interval.value == pytest.approx(0, abs=1e-12)
    assert found.reach == pytest.approx(4)


def test_gold_that_is_kept_at_equal_distance_is_found_whichever_row_went_further() -> None:
    near, far = line(0.01, 2, 4), line(0.04, 3, 8)
    for some, sign in ((study({FLOW: far, GUARD: near}), 1), (study({FLOW: near, GUARD: far}), -1)):
        found = difference_at_distance(some, GUARD, FLOW)
        assert found.interval is not None and found.interval.value == pytest.approx(sign * 0.03 * 4)


def test_each_seed_is_compared_at_its_own_distance() -> None:
    # They meet at 4 and at 1. At the mean of both, 2.5, gold is 0.975 and 0.84, and the difference would be 0.135.
    bent = [(0.0, 1.0), (2.0, 0.92), (4.0, 0.60)]
    some = study({FLOW: bent, GUARD: line(0.01, 2, 4)}, {FLOW: bent, GUARD: line(0.01, 0.5, 1)})
    found = difference_at_distance(some, GUARD, FLOW)
    assert found.interval is not None
    assert found.interval.value == pytest.approx(((0.96 - 0.60) + (0.99 - 0.96)) / 2)
    assert found.reach == pytest.approx(2.5)


def test_a_way_back_towards_the_base_model_is_no_second_chance() -> None:
    further, nearer = [(0.0, 1.0), (4.0, 0.8), (2.0, 0.95)], [(0.0, 1.0), (2.0, 0.98), (1.5, 0.99)]
    found = difference_at_distance(study({FLOW: further, GUARD: nearer}), GUARD, FLOW)
    assert found.interval is not None and found.interval.value == pytest.approx(0.98 - 0.9)


def test_the_interval_holds_what_was_planted_and_is_over_seeds_too() -> None:
    rows = {FLOW: line(0.04, 3, 6), GUARD: line(0.02, 1.5, 3)}
    found = difference_at_distance(study(rows, rows, rows, noise=0.05), GUARD, FLOW).interval
    assert found is not None and found.seeds == 3 and found.over == "prompts and seeds"
    assert found.low < 0.06 < found.high and found.excludes(0)


def test_why_there_is_no_gold_at_equal_distance_is_said() -> None:
    rows = {FLOW: line(0.04, 3), GUARD: line(0.02, 3)}
    assert "has no record of its KL" in difference_at_distance(study(rows, recorded=False), GUARD, FLOW).reason
    assert "not trained on one proxy" in difference_at_distance(study(rows), GUARD, "sd3_flow_geneval").reason


def test_gold_at_equal_distance_stands_beside_gold_at_equal_updates_and_decides_nothing() -> None:
    rows = {FLOW: line(0.03, 3, 6, 9), GUARD: line(0.03, 1, 2, 4)}
    c8 = next(each for each in evaluate(study(rows, rows, rows, noise=0.001)) if each.id == "C8")
    part = next(part for part in c8.parts if "at equal sqrt(KL)" in part.name)
    assert part.verdict == "" and part.interval is not None and "sqrt(KL) 4" in part.reason
    assert part.value == pytest.approx(0, abs=0.01)
    # as far in KL is not as far in training: the proxy's and each gold's difference there is said
    assert "proxy 0.00 [" in part.reason and all(f"{gold} " in part.reason for gold in GOLDS)
