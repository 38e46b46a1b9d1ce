"""The order in which a suite trains its rows."""

from __future__ import annotations

import os

import pytest
import torch

from bench.suite import Job, configure, forwards_of_epoch, rows_at_a_time


def test_a_chain_costs_ten_forwards_and_nine_trained_steps_of_three() -> None:
    assert forwards_of_epoch("flow_grpo", steps=10) == 10 + 3 * 9


def test_branching_costs_its_share_of_the_trunk_and_every_branch() -> None:
    # Nine forwards of the trunk for six branches; the branch of step i needs 9 - i more.
    assert forwards_of_epoch("temp_flow_grpo", steps=10) == pytest.approx(9 / 6 + sum(range(1, 10)) + 3 * 9)


def test_a_row_weighs_its_updates_times_what_its_method_costs() -> None:
    heaviest, light, base = (Job(configure(row, [])).work for row in ("sd3_temp_text", "sd3_flow_text", "sd3_base"))
    assert heaviest > light > base == 0


def test_rows_share_cores_and_not_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, wanted in ((False, os.cpu_count()), (True, 1)):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda gpu=gpu: gpu)
        assert rows_at_a_time() == wanted
