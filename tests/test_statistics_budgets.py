"""What a row has spent: counts from the record's cost, seconds from its times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from fake_scores import golds, write_scored

from bench.record import Record
from paper_tables.frame import read
from paper_tables.statistics.budgets import budgets

ONES = golds(np.ones((2, 1)))
COST = {"images": 48.0, "rollout_forwards": 480.0, "trained_transitions": 432.0, "decodes": 48.0}


def spent(root: Path, row: str, times: tuple[dict[str, float], ...] = (), seed: int = 0, **info: object) -> None:
    folder = write_scored(root, row, dict.fromkeys((0, 2, 4), ONES), seed, **info)
    for line in times:
        Record(folder).append("times", {"host": "h", "machine": "m", **line})


def test_counts_grow_with_updates_and_methods_are_compared_in_what_they_spend(tmp_path: Path) -> None:
    branched = COST | {"rollout_forwards": 4.65 * 480, "decodes": 9 * 48.0}
    spent(tmp_path, "sd3_flow_text", cost=COST)
    spent(tmp_path, "sd3_temp_text", cost=branched)
    flow, temp = (budgets(read(tmp_path), row) for row in ("sd3_flow_text", "sd3_temp_text"))
    assert flow["images"].tolist() == [0, 96, 192] and flow["transitions"].tolist() == [0, 864, 1728]
    np.testing.assert_allclose(temp["forwards"][1:] / flow["forwards"][1:], 4.65)
    np.testing.assert_allclose(temp["decodes"][1:] / flow["decodes"][1:], 9)


def test_seconds_are_those_of_the_epochs_needed_a_repeated_one_once_on_every_device(tmp_path: Path) -> None:
    times = ({"epoch": 1, "seconds": 7.0, "ranks": 2}, {"epoch": 2, "seconds": 99.0, "ranks": 2},
             {"evaluation_seconds": 50.0}, {"epoch": 2, "seconds": 5.0, "ranks": 2})  # fmt: skip
    spent(tmp_path, "sd3_flow_text", times)
    assert budgets(read(tmp_path), "sd3_flow_text")["device_seconds"].tolist() == [0, 14, 24]


def test_seconds_are_the_mean_over_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        spent(tmp_path, "sd3_flow_text", tuple({"epoch": e, "seconds": 1.0 + seed} for e in (1, 2)), seed)
    assert budgets(read(tmp_path), "sd3_flow_text")["device_seconds"].tolist() == [0, 1.5, 3]


def test_what_a_record_does_not_have_is_not_made_up(tmp_path: Path) -> None:
    spent(tmp_path, "sd3_flow_text")
    found = budgets(read(tmp_path), "sd3_flow_text")
    assert found["update"].tolist() == [0, 2, 4]
    assert found[["images", "forwards", "transitions", "decodes"]].isna().all(axis=None)
    assert found["device_seconds"].tolist()[0] == 0 and pd.isna(found["device_seconds"][1:]).all()
