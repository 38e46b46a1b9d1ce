"""Cells and the three renderings of a table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from paper_tables.statistics.bootstrap import Interval
from paper_tables.table import EMPTY, Table, escape, number, text, to_csv, to_latex, to_markdown, with_ends

TABLE = Table(
    title="Scores & runs",
    heads=("Method", "Gold_1"),
    keys=("base", "guard", "absent"),
    rows=(
        (text("SD3"), number(0.123456, 2, runs=("a", "b"), n=64)),
        (text("Guard"), number(1.005, 3, runs=("c",), n=30, missing=2)),
        (text("None"), EMPTY),
    ),
    rules=frozenset({2}),
    notes=("100 % of it.",),
)


def test_markdown_is_the_title_the_table_and_the_notes() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "**Scores & runs**",
        "",
        "| Method   |   Gold_1 |",
        "|:---------|---------:|",
        "| SD3      |     0.12 |",
        "| Guard    |   1.005* |",
        "| None     |        — |",
        "",
        "- 100 % of it.",
    ]


def test_csv_keeps_unrounded_values_counts_and_runs() -> None:
    base, guard, absent = csv.DictReader(io.StringIO(to_csv(TABLE)))
    assert (float(base["Gold_1"]), base["Gold_1 n"], base["Gold_1 runs"]) == (0.123456, "64", "a b")
    assert (guard["row"], guard["Gold_1 missing"]) == ("guard", "2")
    assert (absent["Gold_1"], absent["Gold_1 n"]) == ("", "0")


def test_latex_is_booktabs_with_a_rule_before_each_group() -> None:
    assert to_latex(TABLE).splitlines() == [
        r"\begin{table*}",
        r"\centering",
        r"\small",
        r"\caption{Scores \& runs}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Method & Gold\_1 \\",
        r"\midrule",
        r"SD3 & 0.12 \\",
        r"Guard & 1.005* \\",
        r"\midrule",
        r"None & --- \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\footnotesize 100 \% of it.",
        r"\end{table*}",
    ]


def test_latex_reads_no_letter_as_a_command() -> None:
    assert escape(r"a_b\c{d}~^[0.9]<1") == (
        r"a\_b\textbackslash{}c\{d\}\textasciitilde{}\textasciicircum{}{[}0.9{]}\textless{}1"
    )


def test_a_table_refuses_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="wanted 1 rows of 2 cells"):
        Table("t", ("a", "b"), ("x",), ((EMPTY,),))


def test_a_cell_shows_its_interval_and_the_csv_keeps_its_ends() -> None:
    found = Interval(0.97, 0.9372, 1.0049, "prompts", 96, 1)
    cell = with_ends(number(0.97, 2, runs=("a",)), found, 2)
    table = Table("t", ("Method", "Gold"), ("x",), ((text("SD3"), cell),))
    assert cell.display == "0.97 [0.94, 1.00]"
    (line,) = csv.DictReader(io.StringIO(to_csv(table)))
    assert (line["Gold low"], line["Gold high"]) == ("0.9372", "1.0049")


@pytest.mark.parametrize(("low", "high"), [(float("nan"), float("nan")), (1.0, 1.0)])
def test_a_cell_of_which_nothing_can_be_said_or_that_cannot_vary_has_no_interval(low: float, high: float) -> None:
    cell = with_ends(number(1, 2), Interval(1, low, high, "prompts", 1, 1), 2)
    assert cell == number(1, 2)


def test_what_stands_out_is_bold_in_both_renderings() -> None:
    table = Table("t", ("Method", "Gold"), ("x",), ((text("SD3"), replace(number(0.5, 1), strong=True)),))
    assert "| **0.5** |" in to_markdown(table)
    assert r"SD3 & \textbf{0.5} \\" in to_latex(table)


def test_no_zero_has_a_sign() -> None:
    assert number(-0.001, 2).display == "0.00"
