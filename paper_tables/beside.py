"""Table 1 as printed, and what was measured at the paper's scale beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pandas as pd

from bench.experiments import TABLE1, Row
from paper_tables import published
from paper_tables.frame import Study
from paper_tables.table import EMPTY, MARK, OVER, Cell, Table, number, text
from paper_tables.table1 import COLUMNS, Column, in_columns, measured, own_proxy

NOT_COMPARABLE = (
    "This table's scores and the measured ones are on different scales: other models, tasks and judges. "
    "Compare the direction of a difference between rows, never a number with a number."
)
DIFFERENCE = "Difference: measured less printed, with the measured score's interval; the printed one has none."
OTHER_STEP = "No difference is formed where the measured step is not the printed one."
KINDS = {"proxy": "proxies", "gold": "gold scores"}


@lru_cache(maxsize=4)
def tables(study: Study) -> tuple[Table, ...]:
    """Ours and the printed table, one below the other; at the paper's scale side by side, proxies and golds apart."""
    ours, theirs = measured(study), printed()
    if study.scale == "paper":
        return tuple(_beside(ours, theirs, kind) for kind in KINDS)
    return ours, replace(theirs, notes=(NOT_COMPARABLE, *theirs.notes))


def printed() -> Table:
    """Table 1 as the paper prints it; a mark at what contradicts itself."""
    frame, marked = published.table1(), _marked()
    lines = []
    for row in TABLE1.values():
        step = number(row.paper_updates, 0) if row.recipe else EMPTY
        cells = (_printed_cell(row, column, frame, (row.name, column.printed) in marked) for column in COLUMNS["paper"])
        lines.append((text(", ".join(filter(None, (row.method, row.task)))), step, *cells))
    return in_columns("Table 1, paper scale, as printed", TABLE1, COLUMNS["paper"], lines, _printed_notes())


def _printed_cell(row: Row, column: Column, frame: pd.DataFrame, marked: bool) -> Cell:
    value = float(frame[column.printed][row.name])
    if pd.isna(value):
        return EMPTY
    cell = number(value, column.decimals)
    return own_proxy(replace(cell, display=cell.display + MARK * marked), row, column)


def _marked() -> set[tuple[str, str]]:
    """(row, column) of what contradicts itself: an Average, or a score whose printed difference is not its own."""
    frame = published.table1()
    averages = {(str(name), "average_printed") for name in published.contradictions(frame).index}
    found = published.inconsistent_differences(frame)
    return averages | set(zip(found["name"], found["score"], strict=True))


def _beside(ours: Table, theirs: Table, kind: str) -> Table:
    """The columns of one kind, each as measured, as printed, and the difference where both are of one step."""
    lines = list(zip(ours.rows, theirs.rows, strict=True))
    apart = [mine[1].value not in (None, other[1].value) for mine, other in lines]
    heads, rows = [*ours.heads[:2], f"{ours.heads[1]} printed"], [(*mine[:2], other[1]) for mine, other in lines]
    for index, column in enumerate(COLUMNS["paper"], start=2):
        if column.key.startswith(kind):
            heads += [column.head, f"{column.head} printed", f"{column.head} difference"]
            pairs = [(mine[index], other[index]) for mine, other in lines]
            new = [_side_by_side(*pair, far, column.decimals) for pair, far in zip(pairs, apart, strict=True)]
            rows = [(*row, *cells) for row, cells in zip(rows, new, strict=True)]
    title = f"{ours.title} and printed: {KINDS[kind]}"
    notes = (*ours.notes, DIFFERENCE, *([OTHER_STEP] if any(apart) else []), *theirs.notes)
    return Table(title, tuple(heads), ours.keys, tuple(rows), ours.rules, notes)


def _side_by_side(mine: Cell, other: Cell, apart: bool, decimals: int) -> tuple[Cell, Cell, Cell]:
    """Measured, printed and their difference; none where they are of steps apart."""
    return (mine, other, EMPTY) if apart else (_alone(mine), other, _difference(mine, other, decimals))


def _difference(mine: Cell, other: Cell, decimals: int) -> Cell:
    """Measured less printed, with the measured score's interval."""
    if not isinstance(mine.value, float) or not isinstance(other.value, float):
        return EMPTY
    value = mine.value - other.value
    low, high = (None if end is None else end - other.value for end in (mine.low, mine.high))
    ends = "" if low is None or high is None else f" [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    shown = f"{value:+.{decimals}f}{ends}{OVER * mine.display.count(OVER)}"
    return replace(mine, value=value, display=shown, low=low, high=high, strong=False)


def _alone(cell: Cell) -> Cell:
    """The cell without its interval, which stands with the difference."""
    return replace(cell, display=cell.display.partition(" [")[0])


def _printed_notes() -> list[str]:
    """Where the numbers are from, and what the printed table says against itself."""
    frame = published.table1()
    wrong = published.contradictions(frame)
    named = [
        f"row {r['row']} ({r['backbone']}, {r['method']}, {r['proxy_task']}) prints {r['average_printed']:.2f} and "
        f"recomputes to {r['recomputed']:.2f}, {_explained(r['rounding'])} ({r['low']:.3f} to {r['high']:.3f} for "
        "scores that round to the printed ones)"
        for r in wrong.to_dict("records")
    ]
    agreeing = f"agrees to two decimals in {len(frame) - len(wrong)} of {len(frame)} rows"
    recomputed = f"The printed Average, recomputed from the printed gold scores, {agreeing}; {'; '.join(named)}."
    return [f"Printed scores: {published.SOURCE}.", f"{MARK} {recomputed}", f"{MARK} {_difference_note(frame)}"]


def _difference_note(frame: pd.DataFrame) -> str:
    decimals = {column.printed: column.decimals for column in COLUMNS["paper"]}
    heads = {column.printed: column.head for column in COLUMNS["paper"]}
    told = [
        f"row {e['row']} {heads[e['score']]} prints {e['printed']:+.{decimals[e['score']]}f} and its scores "
        f"{e['recomputed']:+.{decimals[e['score']]}f}, {_explained(e['rounding'])}"
        for e in published.inconsistent_differences(frame).to_dict("records")
    ]
    return f"Printed differences from the row above that are not those of the printed scores: {'; '.join(told)}."


def _explained(rounding: bool) -> str:
    return f"which rounding can{'' if rounding else 'not'} explain"
