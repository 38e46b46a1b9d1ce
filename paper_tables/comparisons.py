"""Two tables beside Table 1: how often a row beats its base model, and GRPO-Guard less its base method."""

from __future__ import annotations

from functools import lru_cache

from bench.experiments import BASE, PAIRS, Pair, Row
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.outcomes import difference, wins
from paper_tables.table import EMPTY, Cell, Table, mark_intervals, number, text, with_ends
from paper_tables.table1 import COLUMNS, Column, intervals, own_proxy

WINS = (
    "Share of (prompt, seed) pairs in which the row's pictures score above the base model's, ties as half; all up and "
    "all down: every gold score higher, lower (arXiv 2605.13155). Unlike the Average it hangs on no score's zero."
)
PAIRED = (
    "GRPO-Guard less its base method, paired by prompt and seed: the same prompts, the same noise. In bold: the proxy "
    "that both were trained on."
)


@lru_cache(maxsize=4)
def wins_table(study: Study) -> Table | None:
    """How often every row beats its base model, gold score by gold score and in all at once; None without scores."""
    golds = [column for column in COLUMNS[study.scale] if column.key in {f"gold/{gold}" for gold in study.golds}]
    keys, rows, told = [], [], []
    for row in _trained(study):
        found = wins(study, row.name)
        if found is not None:
            each = [found.of[column.key.removeprefix("gold/")] for column in golds]
            cells = (_share(study, row, share) for share in (*each, found.all_up, found.all_down))
            keys.append(row.name)
            told += [f"{row.name}: {found.all_up.note}."] if found.all_up.note else []
            rows.append((text(f"{row.method}, {row.backbone} {row.task}"), *cells))
    heads = ("Against the base model", *(f"{column.head} wins" for column in golds), "all up", "all down")
    rows, marks = mark_intervals(rows)
    notes = (WINS, *intervals(marks), *told)
    title = f"Wins against the base model, {study.scale} scale, measured"
    return Table(title, heads, tuple(keys), tuple(rows), notes=notes) if rows else None


@lru_cache(maxsize=4)
def differences(study: Study) -> Table | None:
    """GRPO-Guard less its base method, pair by pair, in Table 1's columns; None without a pair that has scores."""
    columns, keys, rows, told = COLUMNS[study.scale], [], [], []
    for pair in PAIRS:
        found = [difference(study, pair.guard.name, pair.base.name, column.key) for column in columns]
        cells = [_difference(study, pair, column, each) for column, each in zip(columns, found, strict=True)]
        if any(found):
            keys.append(pair.guard.name)
            told += [f"{pair.guard.name}: {each.note}." for each in found if each and each.note]
            rows.append((text(f"{pair.base.method}, {pair.base.backbone} {pair.base.task}"), *cells))
    heads = ("GRPO-Guard less", *(column.head for column in columns))
    rows, marks = mark_intervals(rows)
    notes = (PAIRED, *intervals(marks), *dict.fromkeys(told))
    title = f"GRPO-Guard less its base method, {study.scale} scale, measured"
    return Table(title, heads, tuple(keys), tuple(rows), notes=notes) if rows else None


def _trained(study: Study) -> list[Row]:
    return [row for row in study.rows if row.setting != BASE]


def _share(study: Study, row: Row, share: Interval) -> Cell:
    runs = tuple(run.info["run_id"] for run in study.of([row]))
    return with_ends(number(share.value, 2, runs=runs, n=share.prompts * share.seeds), share, 2)


def _difference(study: Study, pair: Pair, column: Column, found: Interval | None) -> Cell:
    if found is None:
        return EMPTY
    runs = tuple(run.info["run_id"] for run in study.of([pair.guard, pair.base]))
    cell = number(found.value, column.decimals, runs=runs, n=found.prompts * found.seeds)
    return own_proxy(with_ends(cell, found, column.decimals), pair.guard, column)
