"""The printed Table 1 against its own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from bench.experiments import TABLE1
from paper_tables import published
from paper_tables.average import average
from paper_tables.beside import printed

TASKS = {"GenEval": "geneval", "PickScore": "pickscore", "Text": "text"}


def test_printed_rows_are_the_rows_of_table1_in_order() -> None:
    frame = published.table1()
    assert len(frame) == len(TABLE1) == 13
    for (name, line), row in zip(frame.iterrows(), TABLE1.values(), strict=True):
        assert (name, line["setting"]) == (row.name, row.setting)
        if row.recipe:
            assert (line["method"], line["step"], TASKS[line["proxy_task"]]) == (
                row.method,
                row.paper_updates,
                row.task,
            )


def test_printed_average_recomputes_in_12_of_13_rows_and_row_13_is_named() -> None:
    wrong = published.contradictions(published.table1())
    assert list(wrong["row"]) == [13]
    # (0.304 / 0.302 + 1.07 / 1.01 + 3.35 / 3.31) / 3, printed as 1.02
    assert wrong["recomputed"]["flux_guard_text"] == pytest.approx(1.02604, abs=1e-5)
    note = printed().notes[1]
    assert "12 of 13 rows" in note and "row 13 (Flux.1-dev, GRPO-Guard, Text) prints 1.02" in note


def test_recomputed_average_equals_an_independent_one_to_four_decimals() -> None:
    frame = published.table1()
    assert published.recomputed_average(frame).to_numpy() == pytest.approx(
        frame["average_recomputed"].to_numpy(), abs=5.1e-5
    )


def test_row_13_agrees_with_the_hpsv2_that_its_printed_difference_implies() -> None:
    frame = published.table1().copy()
    frame.loc["flux_guard_text", "hpsv2"] = 0.293 + 0.009
    assert published.contradictions(frame).empty


def test_average_is_the_mean_of_ratios_not_the_ratio_of_means() -> None:
    # (1/2 + 9/3) / 2 = 1.75, while (1 + 9) / (2 + 3) = 2
    assert average(np.array([1.0, 9.0]), np.array([2.0, 3.0])) == 1.75


def test_average_over_fewer_scorers_is_no_average() -> None:
    assert np.isnan(average(np.array([1.0, np.nan]), np.array([1.0, 1.0])))


@pytest.mark.parametrize("base", [0.0, -0.5])
def test_average_has_no_ratio_to_a_base_that_is_not_positive(base: float) -> None:
    assert np.isnan(average(np.array([1.0, 1.0]), np.array([1.0, base])))


def test_rounding_explains_the_average_of_row_13() -> None:
    wrong = published.contradictions(published.table1()).loc["flux_guard_text"]
    # the nearest scores that are printed as these: below (0.3035 / 0.3025 + 1.065 / 1.015 + 3.345 / 3.315) / 3
    assert wrong["low"] == pytest.approx((0.3035 / 0.3025 + 1.065 / 1.015 + 3.345 / 3.315) / 3)
    assert wrong["low"] < 1.025 < wrong["high"] and wrong["rounding"]
    assert "which rounding can explain (1.021 to 1.032 " in printed().notes[1]


def test_an_average_that_no_rounding_makes_is_told_as_such() -> None:
    frame = published.table1().copy()
    frame.loc["sd3_flow_text", "average_printed"] = 0.91
    wrong = published.contradictions(frame).loc["sd3_flow_text"]
    assert not wrong["rounding"] and wrong["high"] < 0.905


def test_three_printed_differences_are_not_those_of_the_scores_and_rounding_explains_one() -> None:
    found = published.inconsistent_differences(published.table1())
    told = found[["row", "of_row", "score", "rounding"]].to_numpy().tolist()
    assert told == [[4, 3, "pickscore", True], [8, 7, "geneval", False], [13, 12, "hpsv2", False]]
    assert found["printed"].tolist() == pytest.approx([0.4, 0.07, 0.009])
    assert found["recomputed"].tolist() == pytest.approx([0.5, 0.13, 0.011])


def test_every_mark_in_the_printed_table_is_at_something_that_contradicts_itself() -> None:
    table = printed()
    marked = {
        (key, head)
        for key, row in zip(table.keys, table.rows, strict=True)
        for head, cell in zip(table.heads, row, strict=True)
        if "†" in cell.display
    }
    assert marked == {
        ("sd3_guard_geneval", "PickScore"), ("sd3_guard_text", "GenEval"),
        ("flux_guard_text", "HPSv2"), ("flux_guard_text", "Average"),
    }  # fmt: skip
    assert "row 8 GenEval prints +0.07 and its scores +0.13, which rounding cannot explain" in table.notes[2]


def test_a_difference_that_is_printed_right_is_not_named() -> None:
    frame = published.table1().copy()
    frame.loc["sd3_guard_text", "d_geneval"] = 0.13
    assert list(published.inconsistent_differences(frame)["row"]) == [4, 13]
