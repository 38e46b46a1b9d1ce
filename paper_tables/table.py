"""A table whose cells know where they come from, and its three renderings. Pure functions of a Table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import isfinite

import pandas as pd

from paper_tables.statistics.bootstrap import Interval

DASH = "—"
MARK = "†"
OVER = "‡"  # once or more: an interval over others than most cells' of its table
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a bare bracket after \\ would be read as its optional argument
    "]": "{]}",
    DASH: "---",
    MARK: r"\textdagger{}",
    OVER: r"\textdaggerdbl{}",
}
SHRUNK = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"


Over = tuple[str, int]


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
        low, high: ends of its interval; None where it has none.
        over: what that is over, "prompts" or "prompts and seeds", and how many seeds; None where there is none.
        strong: whether it stands out, as a row's own proxy does.
    """

    value: float | str | None
    display: str
    runs: tuple[str, ...] = ()
    n: int = 0
    missing: int = 0
    definitions: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    strong: bool = False
    over: Over | None = None


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
    shown = f"{round(value, decimals) + 0.0:.{decimals}f}"  # no "-0.00"
    return Cell(value, shown + "*" * bool(missing), runs, n, missing)


def with_ends(cell: Cell, found: Interval | None, decimals: int) -> Cell:
    """The cell with an interval in brackets: "0.97 [0.94, 1.00]"; as it was where nothing can be said, or varies."""
    if found is None or not isfinite(found.low + found.high) or found.low == found.high:
        return cell
    ends = found.display(decimals).partition(" ")[2]
    return replace(cell, display=f"{cell.display} {ends}", low=found.low, high=found.high,
                   over=(found.over, found.seeds))  # fmt: skip


def mark_intervals(rows: list[tuple[Cell, ...]]) -> tuple[list[tuple[Cell, ...]], dict[Over, str]]:
    """The rows, with a mark at the intervals that are over other than most are; and the mark of each kind."""
    counts = Counter(cell.over for row in rows for cell in row if cell.over)
    marks = {over: OVER * index for index, (over, _) in enumerate(counts.most_common())}
    return [tuple(_marked(cell, marks) for cell in row) for row in rows], marks


def _marked(cell: Cell, marks: dict[Over, str]) -> Cell:
    return replace(cell, display=cell.display + marks[cell.over]) if cell.over else cell


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: title, table, notes."""
    shown = [[f"**{cell.display}**" if cell.strong else cell.display for cell in row] for row in table.rows]
    frame = pd.DataFrame(shown, columns=list(table.heads))
    align = ("left",) + ("right",) * (len(table.heads) - 1)
    body = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"**{table.title}**", "", body, "", *notes]).rstrip() + "\n"


def to_csv(table: Table) -> str:
    """One line per row: unrounded values, then every number's interval, n, missing scores, definition and run ids."""
    frame = pd.DataFrame({"row": table.keys})
    for index, head in enumerate(table.heads):
        frame[head] = pd.Series([row[index].value for row in table.rows], dtype=object)
    for index, head in enumerate(table.heads):
        cells = [row[index] for row in table.rows]
        if any(cell.low is not None for cell in cells):
            frame[f"{head} low"] = [cell.low for cell in cells]
            frame[f"{head} high"] = [cell.high for cell in cells]
            frame[f"{head} over"] = [f"{cell.over[0]}, {cell.over[1]}" if cell.over else "" for cell in cells]
        if any(cell.runs for cell in cells):
            frame[f"{head} n"] = [cell.n for cell in cells]
            frame[f"{head} missing"] = [cell.missing for cell in cells]
            frame[f"{head} definition"] = [" ".join(cell.definitions) for cell in cells]
            frame[f"{head} runs"] = [" ".join(cell.runs) for cell in cells]
    return frame.to_csv(index=False, lineterminator="\n")


def to_latex(table: Table) -> str:
    """A `table*` float, shrunk to the text's width; its document needs \\usepackage{booktabs,graphicx}."""
    lines = ["\\begin{table*}", "\\centering", "\\small", f"\\caption{{{escape(table.title)}}}", SHRUNK]
    lines += [
        f"\\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        "\\toprule",
        _line(table.heads),
        "\\midrule",
    ]
    for index, row in enumerate(table.rows):
        lines += ["\\midrule"] if index in table.rules else []
        lines.append(_line(tuple(cell.display for cell in row), tuple(cell.strong for cell in row)))
    lines += ["\\bottomrule", "\\end{tabular}}"]
    lines += [f"\\par\\footnotesize {escape(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table*}", ""])


def escape(words: str) -> str:
    """`words` with the characters that LaTeX reads as commands made printable."""
    return "".join(_LATEX.get(letter, letter) for letter in words)


def _line(displays: tuple[str, ...], strong: tuple[bool, ...] = ()) -> str:
    bold = strong or (False,) * len(displays)
    cells = [rf"\textbf{{{escape(d)}}}" if b else escape(d) for d, b in zip(displays, bold, strict=True)]
    return " & ".join(cells) + r" \\"
