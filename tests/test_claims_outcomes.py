"""Claims about scores at the end and about pictures, on studies whose answer was planted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fake_scores import GOLDS
from planted import (
    BASE,
    ENDS,
    FALLS,
    PROMPTS,
    RISES,
    SEEDS,
    STAYS,
    UPDATES,
    Course,
    judged,
    of_text,
    pairs,
    planted,
    text,
)

from paper_tables.claims import course, evaluate, pictures, scores
from paper_tables.frame import Study


def test_a_planted_gain_is_confirmed_in_all_five_pairs() -> None:
    found = judged(scores.gold_is_higher_at_equal_updates, planted(pairs(FALLS, STAYS)))
    assert found.verdict == "confirmed"
    # 0.1 of a base of 0.6, in every gold
    assert found.value == pytest.approx(0.1 / 0.6, abs=0.03)
    decided = [part for part in found.parts if part.verdict]
    assert len(decided) == 5 and len(found.parts) == 5 + 5 + 5 * len(GOLDS)
    assert "Table 1, row" in found.reason and "5 parts: 5 confirmed" in found.reason
    assert found.interval and found.interval.over == "prompts and seeds" and found.interval.seeds == len(SEEDS)


def test_a_planted_null_is_not_confirmed_where_the_study_could_have_seen_the_papers_effect() -> None:
    found = of_text(scores.gold_is_higher_at_equal_updates, text(ENDS, flow=STAYS, guard=STAYS))
    assert found.verdict == "not confirmed" and found.interval
    assert found.interval.low < 0 < found.interval.high < 0.14
    assert "remains possible, smaller than in the paper" in found.reason


def test_an_effect_smaller_than_the_papers_is_told_to_be_of_another_world() -> None:
    found = judged(scores.gold_is_higher_at_equal_updates, planted(pairs(STAYS, STAYS)))
    assert found.verdict == "not confirmed" and "not of the tiny scale's" in found.reason


def test_a_small_study_is_called_underpowered() -> None:
    rows: dict[str, Course] = {"sd3_base": {}, "sd3_flow_text": STAYS, "sd3_guard_text": STAYS}
    found = of_text(scores.gold_is_higher_at_equal_updates, planted(rows, seeds=(0, 1, 2), noise=0.4))
    assert found.verdict == "underpowered"
    assert found.interval and found.interval.high > 0.14
    told = rf"(needs \d+ seeds at|no number of seeds is enough with) {PROMPTS} prompts$"
    assert re.search(rf"to find 0\.11 with a power of 80 %: .*{told}", found.reason)


def test_one_seed_is_underpowered_however_large_the_effect_and_its_number_is_shown() -> None:
    rows: dict[str, Course] = {"sd3_base": {}, "sd3_flow_text": FALLS, "sd3_guard_text": STAYS}
    found = of_text(scores.gold_is_higher_at_equal_updates, planted(rows, seeds=(0,)))
    assert found.verdict == "underpowered" and found.value == pytest.approx(0.1 / 0.6, abs=0.03)
    assert found.interval and found.interval.over == "prompts" and found.interval.low > 0
    assert "one seed: the interval is over prompts alone, wanted 3 (the interval alone: confirmed)" in found.reason
    assert found.reason.endswith("cannot be told from one seed")


def test_one_pair_of_five_that_loses_refutes_the_claim_and_is_named() -> None:
    rows = pairs(FALLS, STAYS) | {"flux_guard_text": {"gold": BASE - 0.2 * UPDATES / 80}}
    found = judged(scores.gold_is_higher_at_equal_updates, planted(rows))
    assert found.verdict == "not confirmed" and found.reason.startswith("flux_guard_text - flux_dance_text")
    assert "5 parts: 4 confirmed, 1 not confirmed" in found.reason


def test_a_missing_pair_is_named_with_its_command_and_the_others_are_shown() -> None:
    found = judged(scores.gold_is_higher_at_equal_updates, text(ENDS, flow=FALLS, guard=STAYS))
    assert found.verdict == "not run" and found.value == pytest.approx(0.1 / 0.6, abs=0.03)
    first = (
        "no finished run of sd3_guard_geneval, sd3_flow_geneval, sd3_guard_pickscore, sd3_flow_pickscore, "
        "flux_guard_geneval, flux_dance_geneval, flux_guard_text, flux_dance_text: `make table1`; "
    )
    assert found.reason.startswith(first) and "5 parts: 4 not run, 1 confirmed" in found.reason


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ((1, 1, 0), "train sd3_base with `python -m bench.train row=sd3_base seed=1`"),
        ((0, 1, 0), "train sd3_guard_text with `python -m bench.train row=sd3_guard_text seed=0`"),
    ],
)
def test_rows_whose_seeds_do_not_meet_are_told_with_the_run_to_be_added(
    seeds: tuple[int, int, int], words: str
) -> None:
    named = dict(zip(("sd3_flow_text", "sd3_guard_text", "sd3_base"), seeds, strict=True))
    runs = tuple(run for row, seed in named.items() for run in planted({row: FALLS}, seeds=(seed,)).runs)
    found = of_text(scores.gold_is_higher_at_equal_updates, Study("tiny", runs))
    assert found.verdict == "not run" and found.reason.endswith(words)
    assert f"sd3_base ({named['sd3_base']})" in found.reason and "FORCE" not in found.reason


def test_the_runs_named_are_those_of_the_seeds_that_meet_with_their_base_models() -> None:
    named = {"sd3_flow_text": (0, 1, 2), "sd3_guard_text": (1, 2, 3), "sd3_base": (0, 1, 2, 3)}
    runs = tuple(run for row, seeds in named.items() for run in planted({row: FALLS}, seeds=seeds).runs)
    study = Study("tiny", runs)
    gold, proxy = (of_text(claim, study) for claim in
                   (scores.gold_is_higher_at_equal_updates, scores.proxy_is_not_lost))  # fmt: skip
    assert set(proxy.runs) == {f"{row}-{seed}" for row in ("sd3_flow_text", "sd3_guard_text") for seed in (1, 2)}
    assert set(gold.runs) - set(proxy.runs) == {"sd3_base-1", "sd3_base-2"}


def test_a_base_model_without_a_positive_gold_has_no_average_to_be_compared() -> None:
    rows: dict[str, Course] = {"sd3_base": {"variety": -BASE}, "sd3_flow_text": FALLS, "sd3_guard_text": STAYS}
    for claim in (scores.gold_is_higher_at_equal_updates, course.guard_falls_later):
        found = of_text(claim, planted(rows))
        assert found.verdict == "underpowered" and found.value is None
        assert found.reason.startswith("the Average does not exist: sd3_base's gold/variety is -0.")


def test_without_a_base_model_it_is_named_instead_of_the_row() -> None:
    found = of_text(scores.gold_is_higher_at_equal_updates, planted({"sd3_flow_text": FALLS, "sd3_guard_text": STAYS}))
    assert found.reason == "no finished run of sd3_base: `python -m bench.train row=sd3_base seed=0` and with seed 1, 2"


@pytest.mark.parametrize(("loss", "verdict"), [(-0.05, "confirmed"), (0.0, "underpowered"), (0.1, "not confirmed")])
def test_a_proxy_is_lost_not_lost_or_too_close_to_say(loss: float, verdict: str) -> None:
    lower = {"proxy": RISES["proxy"] - loss * UPDATES / 80}
    rows: dict[str, Course] = {"sd3_flow_text": RISES, "sd3_guard_text": lower}
    assert of_text(scores.proxy_is_not_lost, planted(rows, noise=0.02 if loss else 0.2)).verdict == verdict


def test_gold_at_equal_proxy_is_equal_on_one_curve_at_two_speeds() -> None:
    time = UPDATES / 80
    slow, fast = ({"proxy": BASE + 0.3 * x, "gold": BASE - 0.2 * x} for x in (time * 0.75, time))
    study = text(flow=fast, guard=slow)
    found = of_text(scores.gold_is_higher_at_equal_proxy, study)
    assert found.verdict == "not confirmed" and found.value == pytest.approx(0, abs=0.02)
    # at equal updates the slow one is higher, by a quarter of 0.2 of a base of 0.6
    equal = of_text(scores.gold_is_higher_at_equal_updates, study)
    assert equal.value == pytest.approx(0.05 / 0.6, abs=0.02)


def test_gold_at_equal_proxy_is_told_where_the_curves_part() -> None:
    time = UPDATES / 80
    flow, guard = ({"proxy": BASE + 0.3 * time, "gold": BASE - fall * time} for fall in (0.2, 0.02))
    found = of_text(scores.gold_is_higher_at_equal_proxy, text(flow=flow, guard=guard))
    # (0.2 - 0.02) / 0.6 at the end, half of it on the way's mean
    assert found.verdict == "confirmed" and found.value == pytest.approx(0.15, abs=0.03)


def test_a_plateau_of_the_proxy_is_shown_beside_gold_at_equal_proxy() -> None:
    # FlowGRPO's proxy stays at 0.3 from update 40 on, where its gold goes on falling: 0.1 and then 0.2 more
    flow = {"proxy": BASE + np.array([0, 0.15, 0.3, 0.299, 0.299]), "gold": BASE - np.array([0, 0.05, 0.1, 0.2, 0.3])}
    guard = {"proxy": BASE + 0.4 * UPDATES / 80, "gold": BASE - 0.2 * UPDATES / 80}
    found = judged(scores.gold_is_higher_at_equal_proxy, text(flow=flow, guard=guard))
    main, guards_end, flows_end = (part for part in found.parts if part.name.startswith("sd3_guard_text"))
    assert re.search(r"sd3_guard_text at update \d\d of 80 and by sd3_flow_text at update \d\d of 80", main.reason)
    assert guards_end.value is None and "sd3_flow_text does not reach the last proxy" in guards_end.reason
    # at 0.299 GRPO-Guard's gold is 0.15 down, FlowGRPO's at its end 0.3, of a base of 0.6
    assert flows_end.value == pytest.approx(0.15 / 0.6, abs=0.03) and not flows_end.verdict


def test_the_ablation_is_confirmed_in_its_order_alone() -> None:
    ordered = [{"gold": BASE - fall * UPDATES / 80} for fall in (0.3, 0.15, 0.05, 0.03)]
    names = ("flow", "mean", "norm", "guard")
    found = judged(scores.mean_correction_gives_most, text(ENDS, **dict(zip(names, ordered, strict=True))))
    assert found.verdict == "confirmed" and len(found.parts) == 4
    swapped = judged(scores.mean_correction_gives_most, text(ENDS, **dict(zip(names, ordered[::-1], strict=True))))
    assert swapped.verdict == "not confirmed"


@pytest.mark.parametrize(("share", "verdict"), [(0.2, "not confirmed"), (0.8, "confirmed")])
def test_most_of_the_benefit_is_more_than_half_of_this_studys_own(share: float, verdict: str) -> None:
    falls = {"flow": 0.4, "mean": 0.4 - 0.38 * share, "norm": 0.03, "guard": 0.02}
    study = text(ENDS, **{row: {"gold": BASE - fall * UPDATES / 80} for row, fall in falls.items()})
    found = judged(scores.mean_correction_gives_most, study)
    # the mean alone is far above FlowGRPO either way
    assert found.parts[0].verdict == "confirmed" and found.parts[1].verdict == found.verdict == verdict
    assert found.parts[1].value == pytest.approx((share - 0.5) * 0.38 / 0.6, abs=0.02)


def test_diversity_is_judged_by_pictures_and_a_record_without_them_is_told() -> None:
    rows: dict[str, Course] = {"sd3_base": {}, "sd3_flow_pickscore": FALLS, "sd3_guard_pickscore": STAYS}
    without = judged(pictures.diversity_is_kept, planted(rows))
    assert without.verdict == "not run" and "no picture/diversity: repeat with FORCE=1" in without.reason
    assert judged(pictures.diversity_is_kept, planted(pictured(0.3, 0.2))).verdict == "confirmed"


def pictured(guard: float, flow: float, duplicates: float = 0.0) -> dict[str, Course]:
    """Rows on PickScore that end at these diversities of a base model's 0.3, GRPO-Guard with duplicates."""
    ends: dict[str, Course] = {"sd3_base": {"diversity": 0.3, "duplicates": 0.0}}
    ends["sd3_flow_pickscore"] = FALLS | {"diversity": flow, "duplicates": 0.0}
    return ends | {"sd3_guard_pickscore": STAYS | {"diversity": guard, "duplicates": duplicates}}


def test_diversity_is_kept_where_nobody_has_duplicates_and_not_where_guard_has() -> None:
    without = judged(pictures.diversity_is_kept, planted(pictured(0.3, 0.2), noise=0.001))
    assert without.verdict == "confirmed"
    with_some = judged(pictures.diversity_is_kept, planted(pictured(0.3, 0.2, duplicates=0.3)))
    assert with_some.verdict == "not confirmed" and "picture/duplicates" in with_some.reason


def test_diversity_above_flow_grpos_is_not_kept_where_it_is_far_below_the_base_models() -> None:
    found = judged(pictures.diversity_is_kept, planted(pictured(0.2, 0.1)))
    assert found.verdict == "not confirmed" and found.reason.startswith("sd3_guard_pickscore - sd3_base")


def test_stripes_have_to_be_there_in_dance_grpo_and_not_in_its_guarded_form() -> None:
    rows: dict[str, Course] = {"flux_base": {"stripes": 2.0}}
    for task in ("geneval", "text"):
        rows |= {f"flux_dance_{task}": {"stripes": 3.0}, f"flux_guard_{task}": {"stripes": 2.0}}
    assert judged(pictures.stripes_are_absent, planted(rows)).verdict == "confirmed"
    both = rows | {"flux_guard_text": {"stripes": 3.0}}
    assert judged(pictures.stripes_are_absent, planted(both)).verdict == "not confirmed"


def test_every_claim_has_a_verdict_or_a_reason_whatever_was_run() -> None:
    for rows in ({"sd3_base": {}}, {"sd3_flow_text": {}}, {"sd3_base": {}, "sd3_guard_text": FALLS}):
        found = evaluate(planted(rows, seeds=(0,)))
        assert len(found) == 20
        for each in found:
            assert each.verdict in ("underpowered", "not run") and each.reason
