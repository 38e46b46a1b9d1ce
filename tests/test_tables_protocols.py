"""Under each protocol, rows of one table differ in what is their own and in nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_ledger import write_run

from paper_tables.frame import StudyError, read


def test_the_two_protocols_are_not_one_study_and_a_record_without_one_is_paired(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text")
    write_run(tmp_path, "sd3_guard_text", protocol="paired")
    assert read(tmp_path).protocol == "paired"
    write_run(tmp_path, "sd3_base", protocol="released")
    with pytest.raises(StudyError, match=r"one protocol \(paired or released\).*released \(sd3_base seed 0\)"):
        read(tmp_path)


def rates(**rate: float) -> dict[str, Any]:
    return {row: {"optim": {"rate": value}, "tf32": True} for row, value in rate.items()}


@pytest.mark.parametrize(
    ("made", "fits"),
    [
        (rates(sd3_flow_text=3e-4, sd3_guard_text=1e-4), True),  # each its own
        (rates(sd3_flow_text=5e-4, sd3_guard_text=5e-4), True),  # changed alike
        (rates(sd3_flow_text=3e-4, sd3_guard_text=3e-4), False),  # one its own, the other not
        (rates(sd3_flow_text=2e-4, sd3_guard_text=1e-4), False),
        ({"sd3_flow_text": {"tf32": True}, "sd3_guard_text": {"tf32": False}}, False),  # equal for all rows
    ],
)
def test_released_rows_may_differ_in_what_is_their_own_and_in_nothing_else(
    tmp_path: Path, made: dict[str, Any], fits: bool
) -> None:
    for row, config in made.items():
        write_run(tmp_path, row, protocol="released", config=config)
    if fits:
        assert len(read(tmp_path).runs) == 2
    else:
        with pytest.raises(StudyError, match=r"differ in (optim\.rate|tf32)"):
            read(tmp_path)


def test_paired_rows_may_not_differ_where_released_ones_do(tmp_path: Path) -> None:
    for row, config in rates(sd3_flow_text=3e-4, sd3_guard_text=1e-4).items():
        write_run(tmp_path, row, protocol="paired", config=config)
    with pytest.raises(StudyError, match=r"differ in optim\.rate"):
        read(tmp_path)


def test_seeds_of_a_released_row_must_share_its_settings(tmp_path: Path) -> None:
    for seed, rate in enumerate((3e-4, 2e-4)):
        write_run(tmp_path, "sd3_flow_text", seed, protocol="released", config={"optim": {"rate": rate}})
    with pytest.raises(StudyError, match=r"differ in optim\.rate .*seed 0.*seed 1"):
        read(tmp_path)


def test_a_penalty_is_the_extra_rows_own_and_nobody_elses(tmp_path: Path) -> None:
    def penalised(beta: float) -> dict[str, Any]:
        return {"optim": {"rate": 2e-3, "kl_beta": beta, "kl_unit": "without_dt" if beta else "with_dt"}}

    for row, beta in {"sd3_flow_text": 0.0, "sd3_flow_kl_text": 0.04, "sd3_flow_kl_pickscore": 0.01}.items():
        write_run(tmp_path, row, config=penalised(beta))
    assert len(read(tmp_path).runs) == 3
    write_run(tmp_path, "sd3_guard_text", config=penalised(0.04))
    with pytest.raises(StudyError, match=r"differ in optim\.kl_beta"):
        read(tmp_path)
