"""Claims about the course of training, on studies whose answer was planted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from planted import BASE, FALLS, RISES, UPDATES, judged, of_text, text

from paper_tables.claims import course
from paper_tables.claims.evidence import Evidence
from paper_tables.claims.register import Claim

EARLY, LATE = ({"gold": BASE + np.array(rise)} for rise in ([0, 0.1, 0.05, 0, -0.1], [0, 0.05, 0.1, 0.15, 0.05]))


def test_a_planted_early_peak_and_fall_are_found() -> None:
    found = judged(course.gold_peaks_early_and_falls, text(flow=EARLY))
    assert found.verdict == "confirmed"
    assert found.parts[0].value == pytest.approx(0.2 / 0.6, abs=0.03)
    assert found.parts[1].value == pytest.approx(0.1 / 0.6, abs=0.02)
    assert found.parts[2].value == 20 / 80
    assert found.parts[2].interval and found.parts[2].interval.low == 10 / 80  # half an evaluation's distance


def test_a_gold_that_only_falls_has_no_early_peak() -> None:
    found = judged(course.gold_peaks_early_and_falls, text(flow=FALLS))
    assert found.verdict == "not confirmed" and found.reason.startswith("sd3_flow_text, rise of gold/average")


def test_peaks_at_the_same_evaluation_do_not_tell_which_is_later() -> None:
    found = judged(course.guard_falls_later, text(flow=EARLY, guard=EARLY))
    assert found.verdict == "underpowered" and found.value == 0
    assert found.interval and found.interval.low == pytest.approx(-0.25)


@pytest.mark.parametrize("claim", [course.gold_peaks_early_and_falls, course.guard_falls_later])
def test_the_interval_of_a_share_ends_where_a_share_does(claim: Claim) -> None:
    part = judged(claim, text(flow={"gold": BASE}, guard={"gold": BASE})).parts[-1]
    assert "share of training" in part.name and part.interval
    lowest = 0 if claim.id == "C10" else -1
    assert lowest <= part.interval.low <= part.interval.value <= part.interval.high <= 1
    assert (part.interval.low, part.interval.high) == (lowest, 1), "nothing is known, and no more than nothing"


def test_a_plateau_has_its_peak_nowhere_in_particular() -> None:
    plateau = {"gold": BASE + np.array([0, 0.1, 0.1, 0.1, 0.0])}
    parts = judged(course.gold_peaks_early_and_falls, text(flow=plateau)).parts
    assert [part.verdict for part in parts] == ["confirmed", "confirmed", "underpowered"]


def test_a_gold_that_rises_to_the_end_has_no_peak_before_it() -> None:
    found = judged(course.gold_peaks_early_and_falls, text(flow={"gold": BASE + 0.2 * UPDATES / 80}))
    assert found.verdict == "not confirmed"


def test_a_peak_that_comes_late_is_no_early_one_and_a_later_one_than_flow_grpos_delays_the_fall() -> None:
    assert judged(course.gold_peaks_early_and_falls, text(flow=LATE)).verdict == "not confirmed"
    assert judged(course.guard_falls_later, text(flow=EARLY, guard=LATE)).verdict == "confirmed"
    assert judged(course.guard_falls_later, text(flow=LATE, guard=EARLY)).verdict == "not confirmed"


@pytest.mark.parametrize(
    ("goal", "when"),
    [(0.0, 0), (0.1, 10), (0.2, 20), (0.3, 40 + 20 * 2 / 3), (0.4, 60), (0.5, 80)],  # 0.5 is never reached
)
def test_a_level_is_reached_on_the_line_between_evaluations(goal: float, when: float) -> None:
    levels = np.array([[[0.0, 0.2, 0.1, 0.4, 0.4]]])
    assert course.reached(levels, UPDATES.astype(float), np.array([[goal]]))[0, 0] == pytest.approx(when)


def test_the_rise_that_is_timed_is_the_smaller_one_and_there_is_none_where_one_falls() -> None:
    low, high, falling = (0.2 + np.array([[[0, 0.5, 1.0]]]) * top for top in (0.1, 0.4, -0.3))
    assert course.threshold(low, high, 0.9)[0, 0] == course.threshold(high, low, 0.9)[0, 0] == pytest.approx(0.29)
    assert np.isnan(course.threshold(high, falling, 0.9)[0, 0])


@pytest.mark.parametrize("end", [0.0, -0.05])
def test_a_proxy_that_never_rises_has_no_speed_to_be_compared(end: float) -> None:
    found = of_text(course.convergence_is_comparable, text(flow=RISES, guard={"proxy": BASE + end * UPDATES / 80}))
    assert found.verdict == "underpowered" and found.interval is None
    assert found.reason.startswith("the proxy of sd3_guard_text does not rise above its start")


def test_the_goal_is_named_with_its_share_of_each_rise() -> None:
    half = {"proxy": BASE + 0.15 * UPDATES / 80}
    found = of_text(course.convergence_is_comparable, text(flow=RISES, guard=half))
    # half of 0.15 above 0.6
    shares = re.search(r"at a proxy of 0\.6\d+, (\d+)% of sd3_guard_text's and (\d+)% of sd3_flow", found.reason)
    assert shares and [int(share) for share in shares.groups()] == pytest.approx([50, 25], abs=3)


def test_who_rises_twice_as_fast_reaches_nine_tenths_in_half_the_time() -> None:
    fast, slow = ({"proxy": BASE + 0.3 * np.minimum(UPDATES / end, 1)} for end in (40, 80))
    found = course.lag(Evidence(text(flow=slow, temp=fast)), "sd3_flow_text", "sd3_temp_text", 0.9)
    # 72 and 36 updates of 80
    assert found is not None and found.value == pytest.approx(36 / 80, abs=0.03)


def test_a_reweighting_that_is_faster_and_costs_gold_is_confirmed_and_a_slower_one_is_not() -> None:
    fast, slow = ({"proxy": BASE + 0.3 * np.minimum(UPDATES / end, 1)} for end in (40, 80))
    flow, temp = slow, fast | {"gold": BASE - 0.25 * UPDATES / 80}
    found = judged(course.reweighting_alone_collapses_sooner, text(flow=flow, temp=temp, weight=temp))
    assert found.verdict == "confirmed"
    swapped = judged(course.reweighting_alone_collapses_sooner, text(flow=fast, temp=slow, weight=slow))
    assert swapped.verdict == "not confirmed"


def test_equal_and_twice_the_speed_are_no_slower_and_half_the_speed_is() -> None:
    fast, slow = ({"proxy": BASE + 0.3 * np.minimum(UPDATES / end, 1)} for end in (40, 80))
    equal = of_text(course.convergence_is_comparable, text(flow=slow, guard=slow))
    assert equal.verdict == "confirmed"
    twice = of_text(course.convergence_is_comparable, text(flow=slow, guard=fast))
    assert twice.verdict == "confirmed" and twice.value is not None and twice.value < -0.1
    half = of_text(course.convergence_is_comparable, text(flow=fast, guard=slow))
    assert half.verdict == "not confirmed"
