"""Intervals, wins and paired differences beside Table 1, on scores that were planted; and LaTeX that compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_ledger import write_study
from fake_scores import GOLDS, Scores, write_scored

from paper_tables import outputs
from paper_tables.beside import OTHER_STEP, _beside, _difference, printed, tables
from paper_tables.comparisons import differences, wins_table
from paper_tables.frame import Study, read
from paper_tables.table import EMPTY, Cell, Table, number, to_latex
from paper_tables.table1 import extra, measured

ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text")
PROMPTS, MEMBERS = 40, 2
LEVELS = {"sd3_base": 0.6, "sd3_flow_text": 0.5, "sd3_guard_text": 0.7}


def scored(row: str, seed: int, level: float) -> Scores:
    """Golds about a level, prompts equally hard for all rows; text on the first ten prompts."""
    generator = np.random.default_rng([seed, len(row)])
    hard = np.random.default_rng(7).normal(0, 0.1, (PROMPTS, 1))
    golds = {gold: level + hard + generator.normal(0, 0.01, (PROMPTS, MEMBERS)) for gold in GOLDS}
    return golds | {"text": np.where(np.arange(PROMPTS)[:, None] < 10, level + hard, np.nan).repeat(MEMBERS, 1)}


def write_levels(root: Path, seeds: tuple[int, ...]) -> Study:
    for row in ROWS:
        for seed in seeds:
            at = {0: scored(row, seed, LEVELS["sd3_base"])}
            at |= {} if row == "sd3_base" else {40: scored(row, seed, LEVELS[row])}
            write_scored(root, row, at, seed)
    return read(root)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_levels(tmp_path_factory.mktemp("runs"), (0, 1, 2))


def cell(table: Table | None, row: str, head: str) -> Cell:
    assert table is not None
    return table.rows[table.keys.index(row)][table.heads.index(head)]


def test_a_cell_of_table_1_has_an_interval_about_its_own_value(study: Study) -> None:
    found = cell(measured(study), "sd3_guard_text", "Variety")
    assert found.low is not None and found.high is not None and isinstance(found.value, float)
    assert found.low < found.value < found.high
    assert re.fullmatch(r"0\.\d\d \[0\.\d\d, 0\.\d\d\]", found.display)


def test_the_base_models_average_is_one_and_has_no_interval(study: Study) -> None:
    assert cell(measured(study), "sd3_base", "Average").display == "1.00"


@pytest.mark.parametrize(
    ("seeds", "words"),
    [((0,), "over prompts alone, of this one seed; "), ((0, 1, 2), "over prompts and 3 seeds; ")],
)
def test_the_legend_says_over_what_and_how_often_such_intervals_held(
    tmp_path: Path, seeds: tuple[int, ...], words: str
) -> None:
    study = write_levels(tmp_path, seeds)
    agreed = words.replace("prompts and 3 seeds", "prompts alone, of these 3 seeds")  # as all pairs do here
    for table, said in ((measured(study), words), (wins_table(study), agreed), (differences(study), words)):
        assert table is not None
        (legend,) = [note for note in table.notes if note.startswith("In brackets: 95 % intervals")]
        assert said in legend and re.search(r"interval of a mean held the truth .*in about 9\d % \(", legend)
        assert ("about what was trained, not about another training run" in legend) == ("alone" in legend)


def test_cells_of_fewer_seeds_are_marked_and_have_a_legend_of_their_own(tmp_path: Path) -> None:
    write_levels(tmp_path, (0, 1, 2))
    other = "sd3_flow_pickscore"
    write_scored(tmp_path, other, {0: scored(other, 0, 0.6), 40: scored(other, 0, 0.5)}, 0)
    study = read(tmp_path)
    for table in (measured(study), wins_table(study)):
        assert table is not None
        head = "Average" if "Average" in table.heads else "Variety wins"
        alone, several = cell(table, other, head), cell(table, "sd3_guard_text", head)
        assert alone.over == ("prompts", 1) and alone.display.endswith("]‡")
        assert several.over != alone.over and "‡" not in several.display
        legends = [note for note in table.notes if "In brackets" in note]
        assert "of this one seed" not in legends[0]
        (of_one,) = [note for note in legends if "of this one seed" in note]
        assert of_one.startswith("‡ In brackets") and r"\textdaggerdbl{}" in to_latex(table)


def test_a_seed_that_lacks_a_score_costs_no_cell_its_interval_of_the_others(tmp_path: Path) -> None:
    write_levels(tmp_path, (0, 1))
    write_study(tmp_path, ("sd3_guard_text",), seeds=(2,), diagnosed=False)  # scores nowhere but in its metrics
    found = cell(measured(read(tmp_path)), "sd3_guard_text", "Variety")
    # a mean over three seeds is no centre of an interval over two
    assert found.low is None and "[" not in found.display and len(found.runs) == 3


def test_wins_are_shares_of_prompt_and_seed_pairs(study: Study) -> None:
    table = wins_table(study)
    assert table is not None and table.keys == ("sd3_flow_text", "sd3_guard_text")
    # 0.1 above and below the base, under noise of 0.01
    assert cell(table, "sd3_guard_text", "Variety wins").value == 1
    assert cell(table, "sd3_flow_text", "Variety wins").value == 0
    assert (cell(table, "sd3_guard_text", "all up").value, cell(table, "sd3_flow_text", "all down").value) == (1, 1)
    assert cell(table, "sd3_guard_text", "all up").n == 3 * PROMPTS


def test_a_paired_difference_is_guard_less_its_base_and_narrower_than_either_score(study: Study) -> None:
    table = differences(study)
    assert table is not None and table.keys == ("sd3_guard_text",)
    gap = cell(table, "sd3_guard_text", "Correctness")
    assert gap.value == pytest.approx(0.2, abs=0.01)
    alone = cell(measured(study), "sd3_guard_text", "Correctness")
    widths = [c.high - c.low for c in (gap, alone) if c.high is not None and c.low is not None]
    assert widths[0] < widths[1] / 3  # prompts' 0.1 cancels, noise of 0.01 stays
    assert cell(table, "sd3_guard_text", "Text").strong and not gap.strong
    assert len(gap.runs) == 6


def test_without_score_files_there_are_no_such_tables(tmp_path: Path) -> None:
    study = read(write_study(tmp_path, ROWS, diagnosed=False))
    assert wins_table(study) is None and differences(study) is None
    assert cell(measured(study), "sd3_guard_text", "Variety").display == "0.63"


def test_a_difference_from_the_printed_score_has_the_measured_ones_interval(study: Study) -> None:
    mine = Cell(0.9, "0.90 [0.85, 0.95]", ("a",), low=0.85, high=0.95)
    gap = _difference(mine, number(0.99, 2), 2)
    assert gap.display == "-0.09 [-0.14, -0.04]"
    assert (gap.value, gap.low, gap.high) == pytest.approx((-0.09, -0.14, -0.04))
    assert not [head for table in tables(study) for head in table.heads if "difference" in head]  # at the tiny scale


def test_scores_of_another_step_than_the_printed_one_have_no_difference() -> None:
    theirs = printed()
    at = theirs.keys.index("sd3_guard_text")
    early = (theirs.rows[at][0], number(40, 0), *theirs.rows[at][2:])
    ours = replace(theirs, rows=(*theirs.rows[:at], early, *theirs.rows[at + 1 :]))
    same, other = (_beside(measured, theirs, "gold") for measured in (theirs, ours))
    heads = ("Step", "Step printed", "HPSv2", "HPSv2 difference")
    steps = theirs.rows[at][1].display
    assert [cell(same, "sd3_guard_text", head).display for head in heads] == [steps, steps, "0.286", "+0.000"]
    assert [cell(other, "sd3_guard_text", head).display for head in heads] == ["40", steps, "0.286", EMPTY.display]
    assert cell(other, "sd3_flow_text", "HPSv2 difference") != EMPTY != cell(other, "sd3_base", "HPSv2 difference")
    assert (OTHER_STEP in same.notes, OTHER_STEP in other.notes) == (False, True)


def latex(study: Study) -> str:
    found = [*tables(study), extra(study), wins_table(study), differences(study)]
    body = "\n".join(to_latex(table) for table in found if table is not None)
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    return f"{head}\n{body}\n" + r"\end{document}" + "\n"


def test_latex_has_as_many_cells_as_heads_and_closes_what_it_opens(study: Study) -> None:
    source = latex(study)
    for block in source.split(r"\begin{table*}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{(l r*|lr*)\}", block)
        assert columns
        lines = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns.group(1))}
    bare = re.sub(r"\\[{}]", "", source)
    assert bare.count("{") == bare.count("}")
    assert sorted(re.findall(r"\\begin\{(\w+\*?)\}", source)) == sorted(re.findall(r"\\end\{(\w+\*?)\}", source))


def test_latex_compiles(study: Study, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex (Debian: texlive-latex-base, texlive-latex-recommended)")
    (tmp_path / "tables.tex").write_text(latex(study), encoding="utf-8")
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout[-2000:]
    assert "Overfull \\hbox" not in made.stdout


def test_all_tables_are_written_and_those_of_an_earlier_call_removed(
    study: Study, tmp_path: Path, undrawn: None
) -> None:
    outputs.write_all(study, tmp_path)
    names = {f"{stem}.{kind}" for stem in ("wins", "differences") for kind in ("md", "tex", "csv")}
    assert names <= {path.name for path in tmp_path.iterdir()}
    outputs.write_all(read(write_study(tmp_path / "runs", ROWS)), tmp_path)
    assert not names & {path.name for path in tmp_path.iterdir()}
