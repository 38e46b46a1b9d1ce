"""Last scores, paired differences and wins, on studies whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_scores import GOLDS, Scores, golds, memory_study, write_scored
from numpy.typing import NDArray

from paper_tables.frame import Study, curves, read
from paper_tables.statistics import difference, final, wins
from paper_tables.statistics.bootstrap import interquartile_mean
from paper_tables.statistics.estimate import AVERAGE, updates

BASE, FLOW, GUARD = "sd3_base", "sd3_flow_text", "sd3_guard_text"
PROMPTS, MEMBERS = 60, 2


def judged(generator: np.random.Generator, level: float, shared: NDArray[np.float64]) -> Scores:
    """Golds about `level` on all prompts, text on every third; prompts are as hard for everybody."""
    noise = generator.normal(0, 0.05, (4, PROMPTS, MEMBERS))
    text = np.where(np.arange(PROMPTS)[:, None] % 3 == 0, level + shared + noise[3], np.nan)
    return {gold: level + shared + noise[i] for i, gold in enumerate(GOLDS)} | {"text": text}


def planted(levels: dict[str, float], seeds: tuple[int, ...] = (0, 1, 2)) -> Study:
    """A study in which a row ends at its level, from 0.8 like the base model; seeds move rows by 0.005."""
    generator, runs = np.random.default_rng(3), {}
    shared = generator.normal(0, 0.2, (PROMPTS, 1))
    for seed in seeds:
        start = judged(generator, 0.8, shared)
        runs[BASE, seed] = {0: start}
        for row, level in levels.items():
            runs[row, seed] = {0: start, 40: judged(generator, level + generator.normal(0, 0.005), shared)}
    return memory_study(runs)


def test_values_are_the_tables(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 0.1, (PROMPTS, 1))
    for seed in (0, 1, 2):
        write_scored(tmp_path, BASE, {0: judged(generator, 0.8, shared)}, seed)
        steps = {update: judged(generator, 0.9, shared) for update in (0, 20, 40)}
        write_scored(tmp_path, FLOW, steps, seed)
    study = read(tmp_path)
    frame = curves(study)
    last = frame[(frame["row"] == FLOW) & (frame["update"] == 40)]
    for key in (AVERAGE, "gold/variety", "proxy/text", "proxy"):
        found = final(study, FLOW, key)
        assert found is not None and found.value == pytest.approx(last[key].mean(), abs=1e-12)
    found = final(study, FLOW, AVERAGE, interquartile_mean)
    assert found is not None and found.low < found.value < found.high


def test_a_planted_difference_is_found_and_a_planted_null_is_not() -> None:
    study = planted({FLOW: 0.75, GUARD: 0.85, "ablation_ratio_norm": 0.75})
    for key, size in ((AVERAGE, 0.1 / 0.8), ("gold/variety", 0.1), ("proxy", 0.1)):
        found, null = difference(study, GUARD, FLOW, key), difference(study, "ablation_ratio_norm", FLOW, key)
        assert (
            found is not None
            and found.low > 0
            and not found.excludes(size)
            and found.value == pytest.approx(size, abs=0.03)
        )
        assert null is not None and not null.excludes(0)


def test_a_difference_is_narrower_than_its_two_scores_because_prompts_are_as_hard_for_both() -> None:
    study = planted({FLOW: 0.75, GUARD: 0.85})
    both = [final(study, row, "gold/variety") for row in (FLOW, GUARD)]
    apart = difference(study, GUARD, FLOW, "gold/variety")
    assert apart is not None
    assert all(one is not None and one.high - one.low > 3 * (apart.high - apart.low) for one in both)


def test_a_difference_turned_round_changes_its_sign_alone() -> None:
    study = planted({FLOW: 0.75, GUARD: 0.85})
    one, other = difference(study, GUARD, FLOW), difference(study, FLOW, GUARD)
    assert one is not None and other is not None
    np.testing.assert_allclose([one.value, one.low, one.high], [-other.value, -other.high, -other.low], rtol=1e-9)


def test_rows_and_bases_that_are_missing_are_left_out_or_none() -> None:
    study = planted({FLOW: 0.75})
    assert final(study, GUARD) is None and difference(study, FLOW, GUARD) is None and wins(study, GUARD) is None
    some = Study("tiny", tuple(run for run in study.runs if (run.info["row"], run.info["seed"]) != (BASE, 1)))
    average, gold = final(some, FLOW), final(some, FLOW, "gold/variety")
    assert average is not None and gold is not None and (average.seeds, gold.seeds) == (2, 3)
    none = Study("tiny", tuple(run for run in study.runs if run.info["row"] != BASE))
    assert final(none, FLOW) is None and final(none, FLOW, "proxy") is not None


def test_a_row_without_a_proxy_has_none_and_a_key_that_is_none_is_refused() -> None:
    study = planted({FLOW: 0.75})
    assert final(study, BASE, "proxy") is None and final(study, FLOW, "picture/stripes") is None
    with pytest.raises(ValueError, match="found 'gold/beauty'"):
        final(study, FLOW, "gold/beauty")


def test_statistics_of_pictures_are_a_measure_like_another() -> None:
    runs = {(FLOW, 0): {0: golds(np.ones((5, 2))) | {"stripes": np.full((5, 2), 0.2)}}}
    found = final(memory_study(runs), FLOW, "picture/stripes")
    assert found is not None and found.value == pytest.approx(0.2)


def test_wins_count_pairs_and_ties_as_half() -> None:
    start = np.full((40, 2), 0.5)
    up = start + np.r_[np.full(20, 0.1), np.zeros(10), np.full(10, -0.1)][:, None]
    last = dict(zip(GOLDS, (up, up, start + 0.1), strict=True))
    study = memory_study({(BASE, 0): {0: golds(start)}, (FLOW, 0): {0: golds(start), 40: last}})
    found = wins(study, FLOW)
    assert found is not None
    assert [found.of[gold].value for gold in GOLDS] == [0.625, 0.625, 1.0]
    assert (found.all_up.value, found.all_down.value) == (0.5, 0.0)
    assert found.of[GOLDS[0]].over == "prompts" and found.of[GOLDS[0]].low < 0.625 < found.of[GOLDS[0]].high


def test_winning_every_pair_seen_is_not_winning_every_pair() -> None:
    start = np.full((40, 1), 0.5)
    study = memory_study({(BASE, 0): {0: golds(start)}, (FLOW, 0): {40: golds(start + 0.1)}})
    found = wins(study, FLOW)
    assert found is not None
    assert (found.all_up.low, found.all_up.high) == (pytest.approx(0.025 ** (1 / 40)), 1)
    assert (found.all_down.low, found.all_down.high) == (0, pytest.approx(1 - 0.025 ** (1 / 40)))


def test_where_all_pairs_of_several_seeds_agree_the_interval_is_over_prompts_alone() -> None:
    start, runs = np.full((40, 1), 0.5), {}
    for seed in range(3):
        runs |= {(BASE, seed): {0: golds(start)}, (FLOW, seed): {40: golds(start + 0.1)}}
    found = wins(memory_study(runs), FLOW)
    assert found is not None and (found.all_up.over, found.all_up.seeds) == ("prompts", 3)


def test_wins_do_not_hang_on_where_a_score_has_its_zero() -> None:
    def found(zero: float) -> float:
        study = memory_study({(BASE, 0): {0: golds(start + zero)}, (FLOW, 0): {40: golds(start + zero + gain)}})
        won = wins(study, FLOW)
        assert won is not None
        return won.of[GOLDS[0]].value

    generator = np.random.default_rng(5)
    start, gain = generator.normal(0, 1, (30, 2)), generator.normal(0.2, 0.5, (30, 1))
    assert found(0) == found(-7) == np.mean(gain > 0)


def test_equal_scores_summed_in_another_order_are_a_tie() -> None:
    members = np.array([0.1, 0.7, 1 / 3, 1 / 3, 1 / 7])
    start, turned = np.tile(members, (10, 1)), np.tile(members[::-1], (10, 1))
    study = memory_study({(BASE, 0): {0: golds(start)}, (FLOW, 0): {40: golds(turned)}})
    found = wins(study, FLOW)
    assert found is not None and {each.value for each in found.of.values()} == {0.5}


def test_a_seed_that_lacks_the_last_evaluation_is_left_out_and_all_others_stay_at_the_end() -> None:
    generator, runs = np.random.default_rng(1), {}
    for seed in (0, 1, 2):
        level = {40: 0.66, 80: 0.5}
        runs[BASE, seed] = {0: judged(generator, 0.6, np.zeros((PROMPTS, 1)))}
        for row in (FLOW, GUARD):
            runs[row, seed] = {u: judged(generator, of, np.zeros((PROMPTS, 1))) for u, of in level.items()}
    runs[GUARD, 2][80] = dict(runs[GUARD, 2][80]) | {GOLDS[0]: np.full((PROMPTS, MEMBERS), np.nan)}
    study = memory_study(runs)
    found, won = difference(study, GUARD, FLOW), wins(study, GUARD, FLOW)
    assert found is not None and (found.update, found.of_seeds) == (80, (0, 1)) and not found.excludes(0)
    assert found.note == "seed 2 is left out, it lacks gold/average of sd3_guard_text at update 80"
    assert won is not None and won.all_up.seeds == 2 and "seed 2 is left out" in won.all_up.note
    one = final(study, GUARD)
    assert one is not None and (one.update, one.seeds) == (80, 2) and one.value == pytest.approx(0.5 / 0.6, abs=0.02)
    assert updates(study, GUARD) == (40, 80)


def test_rows_trained_for_different_updates_are_compared_at_the_last_that_both_have() -> None:
    start, flat = golds(np.full((20, 1), 0.5)), lambda level: golds(np.full((20, 1), level))
    study = memory_study({
        (BASE, 0): {0: start},
        (FLOW, 0): {0: start, 40: flat(0.6), 80: flat(0.4)},
        (GUARD, 0): {0: start, 40: flat(0.6)},
    })  # fmt: skip
    found, won = difference(study, GUARD, FLOW), wins(study, GUARD, FLOW)
    assert found is not None and found.update == 40 and found.value == pytest.approx(0)
    assert found.note == "at update 40, the last that all have; trained: sd3_guard_text for 40; sd3_flow_text for 80"
    assert won is not None and won.of[GOLDS[0]].value == 0.5 and won.all_up.note == found.note
    alone, over_base = final(study, FLOW), difference(study, FLOW, BASE)
    assert alone is not None and (alone.update, alone.note) == (80, "") and alone.value == pytest.approx(0.8)
    assert over_base is not None and (over_base.update, over_base.note) == (80, "")
    never = memory_study({(BASE, 0): {0: start}, (FLOW, 0): {0: start, 80: start}, (GUARD, 0): {0: start, 40: start}})
    assert difference(never, GUARD, FLOW) is None and wins(never, GUARD, FLOW) is None
