"""The order in which a suite trains its rows."""

from __future__ import annotations

import pytest

from bench.suite import Job, configure, forwards_of_epoch


def test_a_chain_costs_ten_forwards_and_nine_trained_steps_of_three() -> None:
    assert forwards_of_epoch("flow_grpo", steps=10) == 10 + 3 * 9


def test_branching_costs_its_share_of_the_trunk_and_every_branch() -> None:
    # Nine forwards of the trunk for six branches; the branch of step i needs 9 - i more.
    assert forwards_of_epoch("temp_flow_grpo", steps=10) == pytest.approx(9 / 6 + sum(range(1, 10)) + 3 * 9)


def test_a_row_weighs_its_updates_times_what_its_method_costs() -> None:
    heaviest, light, base = (Job(configure(row, [])).work for row in ("sd3_temp_text", "sd3_flow_text", "sd3_base"))
    assert heaviest > light > base == 0
