"""The README's example of a method of one's own: one file of a dozen lines, and it is trained, tabled and reported."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_runs import settings

import baselines
from bench import ledger, train
from bench.experiments import ROWS, RowError, find_row
from paper_tables import outputs
from paper_tables.__main__ import main as make_tables

# What the README shows.
METHOD = '''\
"""Half of GRPO-Guard: its normalised ratio and its clip, and FlowGRPO's equal weights."""

from dataclasses import replace

from baselines.flow_grpo import FLOW_GRPO
from baselines.grpo_guard import GUARD_CLIP
from baselines.terms import ratio_norm

HALF_GUARD = replace(FLOW_GRPO, name="half_guard", log_ratio=ratio_norm, clip=GUARD_CLIP)
'''
ROW = "sd3_half_guard_text"


@pytest.fixture
def half_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file in the package `baselines`, as if it had been written into its folder."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "half_guard.py").write_text(METHOD)
    baselines.__path__.append(str(tmp_path / "package"))
    monkeypatch.setattr(baselines, "RECIPES", baselines.RECIPES | baselines.stated())
    yield
    baselines.__path__.pop()


def test_the_file_has_a_dozen_lines() -> None:
    assert len(METHOD.splitlines()) <= 12


def test_a_method_of_one_file_is_trained_and_found_in_the_tables(
    half_guard: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in ("sd3_base", ROW):
        folder = train.run(settings(row, tmp_path, "updates=2", "evaluation.images_per_prompt=2"))
    run = ledger.read(folder)
    assert run.finished and run.info["recipe"]["log_ratio"] == "ratio_norm" and run.info["task"] == "text"
    assert run.info["recipe"]["clip"] == pytest.approx(2e-6 * 11.3)  # the scale's clips are 11.3 times a paper's
    monkeypatch.setattr(outputs, "save", lambda figure, path: [])
    assert make_tables(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    shown = (tmp_path / "out" / "extra.md").read_text()
    assert "| half_guard |" in shown and "Judged, not trained here" not in shown
    lines = list(csv.reader((tmp_path / "out" / "extra.csv").open()))
    assert any(ROW in cell for line in lines for cell in line)


def test_a_row_of_ones_own_is_named_by_backbone_file_and_task(half_guard: None) -> None:
    row = find_row(ROW)
    assert (row.backbone, row.recipe, row.method, row.task) == ("sd3", "half_guard", "half_guard", "text")
    assert row.paper_updates == ROWS["sd3_flow_text"].paper_updates
    assert find_row("flux_half_guard_geneval").backbone == "flux"


@pytest.mark.parametrize("name", ["sd3_half_gard_text", "sd3_half_guard_colour", "sd4_half_guard_text", "half_guard"])
def test_a_name_that_is_no_row_is_refused_with_near_names(half_guard: None, name: str) -> None:
    with pytest.raises(RowError, match="no row is called"):
        find_row(name)


def test_without_its_file_there_is_no_such_row() -> None:
    with pytest.raises(RowError, match="no row is called"):
        find_row(ROW)


def test_every_recipe_of_the_papers_is_stated_once_and_comes_first() -> None:
    stated = baselines.stated()
    assert set(stated) == {"flow_grpo", "dance_grpo", "temp_flow_grpo"}
    assert all(baselines.RECIPES[name] is recipe for name, recipe in stated.items())
