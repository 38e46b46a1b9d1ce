"""statistics.csv and curves.csv as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_scores import GOLDS, write_scored

from paper_tables import statistics
from paper_tables.frame import Study, read

ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text", "ablation_ratio_norm")


def study(root: Path, seeds: int) -> Study:
    generator = np.random.default_rng(0)
    for seed in range(seeds):
        start = {name: generator.uniform(0.4, 0.9, (12, 2)) for name in (*GOLDS, "text", "stripes")}
        for row in ROWS:
            later = {name: values + generator.normal(0, 0.05, values.shape) for name, values in start.items()}
            write_scored(root, row, {0: start} if row == "sd3_base" else {0: start, 20: later, 40: later}, seed)
    return read(root)


@pytest.mark.parametrize("seeds, over", [(1, "prompts"), (4, "prompts and seeds")])
def test_every_number_has_its_interval_its_runs_and_says_over_what_it_is(
    tmp_path: Path, seeds: int, over: str, capsys: pytest.CaptureFixture[str]
) -> None:
    statistics.write(study(tmp_path / "runs", seeds), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "statistics.csv").set_index("method")
    known = frame[frame["value"].notna()]
    assert set(known.loc[known.index.difference(["won", "all up", "all down"]), "over"]) == {over} and set(
        known["seeds"]
    ) == {seeds}
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    differences = known.loc["difference"].assign(number=lambda lines: lines["runs"].str.split().str.len())
    of_three = differences["key"] == "gold/average"  # with the base model
    assert (differences["number"] == np.where(of_three, 3, 2) * seeds).all() and of_three.any()
    assert {"mean", "difference", "won", "all up", "all down", "fall from peak"} < set(frame.index)
    assert ("interquartile mean" in frame.index) == (seeds >= 4)
    assert "picture/stripes" in set(frame["key"])
    told = "cannot be told from one seed" if seeds == 1 else r"needs \d+ seeds at 12 prompts|no number of seeds"
    assert frame.loc[["power"], "note"].str.contains(told).all() and set(frame.loc[["power"], "other"]) == {ROWS[1]}
    assert frame.loc[["power"], "note"].str.contains(r"to find 0\.11 \(what Table 1 prints\)").sum() == 1
    printed = capsys.readouterr().out
    assert (
        f"95 % intervals over {over}, {seeds} seed" in printed
        and "such an interval of a mean held the truth" in printed
    )


def test_runs_are_those_of_the_seeds_that_were_used(tmp_path: Path) -> None:
    whole = study(tmp_path / "runs", 2)
    some = Study("tiny", tuple(run for run in whole.runs if (run.info["row"], run.info["seed"]) != (ROWS[1], 1)))
    frame = statistics.files.statistics(some).set_index(["row", "key", "method"])
    of = {run.info["run_id"]: (run.info["row"], run.info["seed"]) for run in some.runs}
    wanted = {
        (ROWS[2], "gold/average", "difference"): {(row, 0) for row in ROWS[:3]},
        (ROWS[2], "proxy", "difference"): {(row, 0) for row in ROWS[1:3]},
        (ROWS[2], "gold/average", "mean"): {(row, seed) for row in (ROWS[0], ROWS[2]) for seed in (0, 1)},
        (ROWS[2], "proxy", "mean"): {(ROWS[2], 0), (ROWS[2], 1)},
    }
    for line, runs in wanted.items():
        assert {of[run] for run in frame.loc[line, "runs"].split()} == runs


def test_curves_have_a_line_for_every_evaluation(tmp_path: Path) -> None:
    statistics.write(study(tmp_path / "runs", 2), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert frame.groupby("row", sort=False)["update"].apply(list).to_dict() == {
        row: [0] if row == "sd3_base" else [0, 20, 40] for row in ROWS
    }
    first = frame[(frame["update"] == 0) & (frame["row"] != "sd3_base")]
    assert (first[["gold/average", "gold/average_low", "gold/average_high"]] == 1).all(axis=None)
    assert set(first["hacking"]) == {"no"}


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    study(folder, 2)
    for name in ("one", "two"):
        statistics.write(read(folder), tmp_path / name)
    for file in ("statistics.csv", "curves.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_runs_without_files_of_scores_have_their_updates_and_no_numbers(tmp_path: Path) -> None:
    study(tmp_path / "runs", 1)
    for path in (tmp_path / "runs").rglob("scores/*.parquet"):
        path.unlink()
    statistics.write(read(tmp_path / "runs"), tmp_path / "out")
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert curves["gold/average"].isna().all()
