"""A table whose cells know where they come from, and its three renderings. Pure functions of a Table."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

DASH = "—"
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a bare bracket after \\ would be read as its optional argument
    "]": "{]}",
    DASH: "---",
}


@dataclass(frozen=True)
class Cell:
    """One value of a table.

    Attributes:
        value: the number, or the text of a text cell; None where there is none.
        display: how it is printed.
        runs: ids of the runs that the value was taken from.
        n: number of scores in it (of runs, for an Average).
        missing: number of scores that could not be obtained and were left out.
        definitions: hashes of the judge's definition, one if all scores in it are of one kind.
    """

    value: float | str | None
    display: str
    runs: tuple[str, ...] = ()
    n: int = 0
    missing: int = 0
    definitions: tuple[str, ...] = ()


EMPTY = Cell(None, DASH)


@dataclass(frozen=True)
class Table:
    """Cells in rows.

    Attributes:
        title: one line.
        heads: C column heads; the first column is text.
        keys: R row names.
        rows: R rows of C cells.
        rules: indices of the rows that a rule is drawn above.
        notes: sentences below the table.
    """

    title: str
    heads: tuple[str, ...]
    keys: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    rules: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.rows) or any(len(row) != len(self.heads) for row in self.rows):
            raise ValueError(f"table {self.title!r}: wanted {len(self.keys)} rows of {len(self.heads)} cells")


def text(value: str) -> Cell:
    """A cell that holds words."""
    return Cell(value, value)


def number(value: float, decimals: int, *, runs: tuple[str, ...] = (), n: int = 0, missing: int = 0) -> Cell:
    """A cell that holds a number, rounded for display only."""
    return Cell(value, f"{value:.{decimals}f}" + ("*" if missing else ""), runs, n, missing)


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: title, table, notes."""
    frame = pd.DataFrame([[cell.display for cell in row] for row in table.rows], columns=list(table.heads))
    align = ("left",) + ("right",) * (len(table.heads) - 1)
    body = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"**{table.title}**", "", body, "", *notes]).rstrip() + "\n"


def to_csv(table: Table) -> str:
    """One line per row: unrounded values, then for every number its n, missing scores, definition and run ids."""
    frame = pd.DataFrame({"row": table.keys})
    for index, head in enumerate(table.heads):
        frame[head] = pd.Series([row[index].value for row in table.rows], dtype=object)
    for index, head in enumerate(table.heads):
        cells = [row[index] for row in table.rows]
        if any(cell.runs for cell in cells):
            frame[f"{head} n"] = [cell.n for cell in cells]
            frame[f"{head} missing"] = [cell.missing for cell in cells]
            frame[f"{head} definition"] = [" ".join(cell.definitions) for cell in cells]
            frame[f"{head} runs"] = [" ".join(cell.runs) for cell in cells]
    return frame.to_csv(index=False, lineterminator="\n")


def to_latex(table: Table) -> str:
    """A `table*` float; its document needs \\usepackage{booktabs}."""
    lines = ["\\begin{table*}", "\\centering", "\\small", f"\\caption{{{escape(table.title)}}}"]
    lines += [
        f"\\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        "\\toprule",
        _line(table.heads),
        "\\midrule",
    ]
    for index, row in enumerate(table.rows):
        lines += ["\\midrule"] if index in table.rules else []
        lines.append(_line(tuple(cell.display for cell in row)))
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par\\footnotesize {escape(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table*}", ""])


def escape(words: str) -> str:
    """`words` with the characters that LaTeX reads as commands made printable."""
    return "".join(_LATEX.get(letter, letter) for letter in words)


def _line(displays: tuple[str, ...]) -> str:
    return " & ".join(map(escape, displays)) + r" \\"
