"""Table 1 of runs with known scores: see `fake_ledger.metrics` for the closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from fake_ledger import write_run, write_study

from bench.experiments import EXTRA, TABLE1
from bench.ledger import Run
from paper_tables import table1
from paper_tables.beside import tables
from paper_tables.comparable import is_base
from paper_tables.frame import Study, StudyError, curves, read
from paper_tables.table import Cell, Table, to_csv
from paper_tables.table1 import extra, measured


def cell(table: Table, row: str, head: str) -> Cell:
    return table.rows[table.keys.index(row)][table.heads.index(head)]


def change_last_line(folder: Path, **changes: float | None) -> None:
    path = folder / "metrics.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last) | changes)]) + "\n")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, seeds=(0, 1), diagnosed=False)


def test_a_cell_is_the_mean_of_its_seeds_at_the_last_evaluation(study: Path) -> None:
    found = cell(measured(read(study)), "sd3_flow_text", "Correctness")
    # base 0.80 and 0.81, times 1 - 0.25 at the end of training
    assert found.value == pytest.approx((0.80 + 0.81) / 2 * 0.75)
    assert found.display == "0.60"
    assert (found.runs, found.n) == (("sd3_flow_text-seed0", "sd3_flow_text-seed1"), 128)


def test_average_divides_by_the_base_of_the_same_backbone_and_seed(tmp_path: Path) -> None:
    write_study(tmp_path, ("sd3_base", "flux_base", "sd3_flow_text"), seeds=(0, 1))
    change_last_line(tmp_path / "sd3_base" / "seed1", **{"gold/correctness": 0.405})
    found = cell(measured(read(tmp_path)), "sd3_flow_text", "Average")
    # seed 0: 0.75; seed 1: the base of correctness is half of 0.81, so (1.5 + 0.75 + 0.75) / 3 = 1
    assert found.value == pytest.approx((0.75 + 1.0) / 2)
    assert found.n == 2


def test_the_base_model_has_average_one(study: Path) -> None:
    table = measured(read(study))
    assert [cell(table, row, "Average").value for row in ("sd3_base", "flux_base")] == [1.0, 1.0]


def test_only_the_proxy_that_was_trained_on_stands_out(study: Path) -> None:
    for table in tables(read(study)):
        for key, row in zip(table.keys, table.rows, strict=True):
            heads = [h for h, c in zip(table.heads, row, strict=True) if c.strong]
            assert [head.lower() for head in heads] == [TABLE1[key].task][: bool(TABLE1[key].task)]


def test_no_cell_is_empty_where_the_paper_has_one(study: Path) -> None:
    ours, theirs = tables(read(study))
    for our_row, their_row in zip(ours.rows, theirs.rows, strict=True):
        for our_cell, their_cell in zip(our_row, their_row, strict=True):
            assert our_cell.value is not None or their_cell.value is None


def test_tiny_scores_never_stand_beside_printed_ones(study: Path) -> None:
    ours, theirs = tables(read(study))
    assert not {"HPSv2", "ImR", "UniR"} & set(ours.heads)
    assert "different scales" in theirs.notes[0] and "poster, Table 1" in theirs.notes[1]


def test_paper_scale_puts_the_printed_score_right_of_ours(tmp_path: Path) -> None:
    proxies, golds = tables(read(write_study(tmp_path, scale="paper", diagnosed=False)))
    assert [head for head in proxies.heads if "printed" in head] == [
        "Step printed", "GenEval printed", "PickScore printed", "Text printed"
    ]  # fmt: skip
    assert golds.heads[-3:] == ("Average", "Average printed", "Average difference")
    assert cell(golds, "sd3_guard_text", "UniR").display.startswith("0.63")
    assert cell(golds, "sd3_guard_text", "UniR printed").display == "3.29"
    assert (cell(golds, "sd3_guard_text", "Step").value, cell(golds, "sd3_guard_text", "Step printed").value) == (
        40,
        480,
    )
    assert cell(golds, "sd3_guard_text", "UniR difference").value is None
    ours, difference = (cell(golds, "sd3_base", head).value for head in ("UniR", "UniR difference"))
    assert difference == pytest.approx(ours - 3.31)
    assert cell(golds, "flux_guard_text", "Average printed").display == "1.02†"


def test_a_row_that_was_not_run_is_dashes_and_named(tmp_path: Path) -> None:
    table = measured(read(write_study(tmp_path, ("sd3_base", "sd3_flow_text"))))
    assert {c.display for c in table.rows[table.keys.index("sd3_guard_text")][1:]} == {"—"}
    assert any(note.startswith("No finished run: sd3_temp_text, sd3_flow_geneval") for note in table.notes)


def test_where_no_row_of_it_is_finished_the_table_names_the_rows_and_no_seeds(tmp_path: Path) -> None:
    table = measured(read(write_study(tmp_path, ("ablation_ratio_norm",))))
    assert not [note for note in table.notes if note.startswith("Seed")]
    assert any(note.startswith("No finished run: sd3_base, sd3_temp_text") for note in table.notes)


def test_an_unfinished_run_is_named_and_not_used(study: Path) -> None:
    write_run(study, "sd3_flow_text", 1, state="preempted", update=12)
    table = measured(read(study))
    assert cell(table, "sd3_flow_text", "Text").runs == ("sd3_flow_text-seed0",)
    assert "Not used, unfinished: sd3_flow_text seed 1: preempted at update 12 of 40." in table.notes
    assert "Not on every seed: sd3_flow_text (0)." in table.notes


def test_a_score_that_could_not_be_obtained_is_counted_not_zero(study: Path) -> None:
    folder = study / "sd3_flow_text" / "seed0"
    change_last_line(folder, **{"gold/variety_n": 60, "gold/variety_missing": 4})
    table = measured(read(study))
    found = cell(table, "sd3_flow_text", "Variety")
    assert (found.n, found.missing, found.display) == (124, 4, "0.45*")
    assert any("4 of gold/variety in sd3_flow_text seed 0" in note for note in table.notes)


def test_a_seed_whose_score_is_wholly_missing_is_left_out_of_the_mean(study: Path) -> None:
    folder = study / "sd3_flow_text" / "seed0"
    change_last_line(folder, **{"gold/variety": None, "gold/variety_n": 0, "gold/variety_missing": 64})
    table = measured(read(study))
    found = cell(table, "sd3_flow_text", "Variety")
    assert found.value == pytest.approx(0.61 * 0.75) and found.runs == ("sd3_flow_text-seed1",)
    assert cell(table, "sd3_flow_text", "Average").runs == ("sd3_flow_text-seed1",)


def test_without_a_base_there_is_no_average_and_a_note_says_so(tmp_path: Path) -> None:
    table = measured(read(write_study(tmp_path, ("sd3_flow_text",))))
    assert cell(table, "sd3_flow_text", "Average").display == "—"
    assert "No Average for want of the base model's run: sd3 seed 0." in table.notes


def test_a_damaged_metrics_line_is_named(study: Path) -> None:
    path = study / "sd3_flow_text" / "seed0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], lines[2]]) + "\n")
    with pytest.raises(StudyError, match=r"metrics.jsonl, line 2 is damaged"):
        curves(read(study))


def test_a_finished_run_whose_last_line_is_torn_is_refused(study: Path) -> None:
    path = study / "sd3_flow_text" / "seed0" / "metrics.jsonl"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(StudyError, match=r"sd3_flow_text seed 0 .* at update 20 of 40: .*bench.judge"):
        curves(read(study))


def test_a_cell_knows_by_which_definition_it_was_judged(study: Path) -> None:
    table = measured(read(study))
    assert cell(table, "sd3_flow_text", "Variety").definitions == ("as-variety",)
    assert cell(table, "flux_base", "GenEval").definitions == ("as-geneval",)
    assert cell(table, "flux_base", "Average").definitions == ()
    assert "as-variety" in to_csv(table)


def test_rows_beside_table_1_have_its_columns_and_are_divided_by_its_base_models(tmp_path: Path) -> None:
    runs = write_study(tmp_path, ("sd3_base", "flux_base", "sd3_flow_text", "sd3_flow_kl_text", "flux_guard_beta_text"))
    study = read(runs)
    beside, table = extra(study), measured(study)
    assert beside and beside.heads == table.heads
    assert beside.keys == ("sd3_flow_kl_text", "flux_guard_beta_text")
    assert not set(beside.keys) & set(table.keys) and len(table.keys) == 13
    # Scores that no training changes: the base's own, so the average is 1.
    assert cell(beside, "sd3_flow_kl_text", "Average").value == pytest.approx(1)
    change_last_line(runs / "flux_base" / "seed0", **{"gold/correctness": 0.4})
    found = extra(read(runs))
    assert found and cell(found, "flux_guard_beta_text", "Average").value == pytest.approx((2 + 1 + 1) / 3)
    assert not [note for note in found.notes if "want of" in note]
    assert cell(found, "sd3_flow_kl_text", "Average").value == pytest.approx(1)


def test_a_row_beside_table_1_has_its_distance_from_the_base_model_where_that_was_recorded(tmp_path: Path) -> None:
    runs = write_study(tmp_path, ("sd3_base", "sd3_flow_kl_text", "sd3_guard_released_text"), seeds=(0, 1))
    for seed, kl in enumerate((9.0, 23.0)):
        change_last_line(runs / "sd3_flow_kl_text" / f"seed{seed}", **{"kl/base": kl})
    found = extra(read(runs))
    assert found and found.heads[-1] == "sqrt(KL)" and any(note.startswith("sqrt(KL): ") for note in found.notes)
    assert cell(found, "sd3_flow_kl_text", "sqrt(KL)").display == "4.0"
    assert cell(found, "sd3_guard_released_text", "sqrt(KL)").value is None


def test_a_row_beside_table_1_without_its_base_model_says_so(tmp_path: Path) -> None:
    found = extra(read(write_study(tmp_path, ("sd3_base", "sd3_flow_kl_text", "flux_guard_beta_text"))))
    assert found and cell(found, "flux_guard_beta_text", "Average").value is None
    assert [note for note in found.notes if "want of" in note] == [
        "No Average for want of the base model's run: flux seed 0."
    ]


def test_nothing_stands_beside_table_1_where_no_such_row_was_run(study: Path) -> None:
    assert extra(read(study)) is None
    write_run(study, next(iter(EXTRA)), state="running", update=3)
    assert extra(read(study)) is None


def test_a_released_table_says_that_rows_differ_in_more_than_their_recipe(tmp_path: Path) -> None:
    paired, released = (
        measured(read(write_study(tmp_path / name, ("sd3_base", "sd3_flow_text"), protocol=name)))
        for name in ("paired", "released")
    )
    assert paired.title == "Table 1, tiny scale, measured"
    assert released.title == "Table 1, tiny scale, protocol released, measured"
    added = [note for note in released.notes if note not in paired.notes]
    assert len(added) == 1 and added[0].startswith("Each row in its method's own published configuration")


def test_an_adapter_that_was_only_judged_is_no_base_model() -> None:
    made = {
        row: Run(Path(), {"row": row, "backbone": "sd3", "seed": 0, "task": task}, {})
        for row, task in (("sd3_base", ""), ("mine", ""), ("sd3_flow_text", "text"))
    }
    assert [row for row, run in made.items() if is_base(run)] == ["sd3_base"]
    without = Study("tiny", (made["mine"],))
    frame = pd.DataFrame({"backbone": ["sd3"], "seed": [0]})
    assert table1._base_notes(without, frame) == ["No Average for want of the base model's run: sd3 seed 0."]
