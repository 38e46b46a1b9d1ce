"""The printed Table 1 against its own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from bench.experiments import TABLE1
from paper_tables import published
from paper_tables.average import average
from paper_tables.table1 import printed

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
    note = printed().notes[-1]
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
