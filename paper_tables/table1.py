"""Table 1 as measured: every row's proxy and gold scores after training, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from bench.experiments import BACKBONES, BASE, EXTRA, JUDGED, PROXIES, ROWS, TABLE1, Row
from paper_tables.comparable import is_base
from paper_tables.frame import Study, curves
from paper_tables.statistics.bootstrap import PROMPTS
from paper_tables.statistics.coverage import held_in
from paper_tables.statistics.distance import at_the_end
from paper_tables.statistics.estimate import ends
from paper_tables.statistics.outcomes import final
from paper_tables.table import EMPTY, Cell, Over, Table, mark_intervals, number, text, with_ends

LEGEND = (
    "After the method the proxy that it was trained on, which is in bold. A cell is the mean over seeds. "
    "Average: mean over the gold scores of score / score of the base model of the same backbone and seed."
)
RELEASED = (
    "Each row in its method's own published configuration (bench/protocols.py), so that a difference between two rows "
    "may also be one of learning rate, KL, schedule or group size."
)
DISTANCE = "sqrt(KL)"
ABOUT_DISTANCE = f"{DISTANCE}: distance from the base model, from the KL in nats per image at the last evaluation."
UNJUDGED = Cell(None, "not judged")  # yet


@dataclass(frozen=True)
class Column:
    """One score of the table.

    Attributes:
        key: metric key.
        head: column head.
        decimals: printed decimals; the paper's at its scale, two on the tiny scale (our choice: a tiny
        score's
            standard error is above 0.005).
        printed: column of the published table, empty if it has none.
    """

    key: str
    head: str
    decimals: int = 2
    printed: str = ""


COLUMNS = {
    "tiny": (
        Column("proxy/geneval", "GenEval"),
        Column("proxy/pickscore", "PickScore"),
        Column("proxy/text", "Text"),
        Column("gold/correctness", "Correctness"),
        Column("gold/cleanliness", "Cleanliness"),
        Column("gold/variety", "Variety"),
        Column("gold/average", "Average"),
    ),
    "paper": (
        Column("proxy/geneval", "GenEval", 2, "geneval"),
        Column("proxy/pickscore", "PickScore", 1, "pickscore"),
        Column("proxy/text", "Text", 2, "text"),
        Column("gold/hpsv2", "HPSv2", 3, "hpsv2"),
        Column("gold/image_reward", "ImR", 2, "imr"),
        Column("gold/unified_reward", "UniR", 2, "unir"),
        Column("gold/average", "Average", 2, "average_printed"),
    ),
}


@lru_cache(maxsize=4)
def measured(study: Study) -> Table:
    """Table 1 from the last evaluations of finished runs, a row at equal updates; a cell is the mean over seeds."""
    return _measured(study, TABLE1, f"Table 1, {_where(study)}, measured")


@lru_cache(maxsize=4)
def extra(study: Study) -> Table | None:
    """The rows beside Table 1 that have a finished run, in its columns and by its base models; None where none has.

    After the runner's own, those of other methods and of adapters that were trained elsewhere; last, where a run has
    recorded it, how far each is from its base model.
    """
    rows = {row.name: row for row in study.rows if row.name in EXTRA or row.name not in ROWS}
    return (
        _with_distances(study, _measured(study, rows, f"Beside Table 1, {_where(study)}, measured")) if rows else None
    )


def _with_distances(study: Study, table: Table) -> Table:
    """The table with DISTANCE, where one of its rows has it."""
    found = [at_the_end(study, row) for row in table.keys]
    if np.isnan(found).all():
        return table
    cells = (EMPTY if np.isnan(each) else number(each, 1) for each in found)
    lines = tuple((*line, cell) for line, cell in zip(table.rows, cells, strict=True))
    return replace(table, heads=(*table.heads, DISTANCE), rows=lines, notes=(*table.notes, ABOUT_DISTANCE))


def _where(study: Study) -> str:
    return f"{study.scale} scale" + (f", protocol {study.protocol}" if study.protocol != "paired" else "")


def _measured(study: Study, rows: dict[str, Row], title: str) -> Table:
    frame = _last(study)
    columns = COLUMNS[study.scale]
    lines = []
    for row in rows.values():
        runs = frame[frame["row"] == row.name]
        lines.append(
            (text(_name(study, row)), _step(row, runs), *(_cell(study, row, column, runs) for column in columns))
        )
    lines, marks = mark_intervals(lines)
    return in_columns(title, rows, columns, lines, _notes(study, frame[frame["row"].isin(rows)], rows, marks))


def _name(study: Study, row: Row) -> str:
    if row.setting == BASE:
        return BACKBONES[study.scale][row.backbone]
    return row.method if row.setting == JUDGED else f"{row.method}, {row.task}"


def _last(study: Study) -> pd.DataFrame:
    """The last evaluation of each run, where seeds of a row were trained for different updates the last in common."""
    frame = curves(study).sort_values("update", kind="stable")
    found = {row.name: ends(study, row.name) for row in study.rows}
    stop = frame["row"].map({name: end[0][0] for name, end in found.items() if end and end[1]})
    return frame[stop.isna() | (frame["update"] <= stop)].groupby("run_id", sort=False).tail(1)


def in_columns(
    title: str, rows: dict[str, Row], columns: tuple[Column, ...], lines: list[tuple[Cell, ...]], notes: list[str]
) -> Table:
    """Method, step and scores of `rows`, a rule above every further base model."""
    heads = ("Method", "Step", *(column.head for column in columns))
    rules = frozenset(i for i, row in enumerate(rows.values()) if i and row.setting == BASE)
    return Table(title, heads, tuple(rows), tuple(lines), rules, tuple(notes))


def _step(row: Row, runs: pd.DataFrame) -> Cell:
    """Optimizer updates at the evaluation shown; the base model has none."""
    return EMPTY if runs.empty or not row.recipe else number(int(runs["update"].max()), 0)


def _cell(study: Study, row: Row, column: Column, runs: pd.DataFrame) -> Cell:
    """Mean over the seeds that have the score, and its interval over the same seeds."""
    scored = runs[runs[column.key].notna()]
    counts = column.key != "gold/average"
    missing = int(runs[f"{column.key}_missing"].fillna(0).sum()) if counts else 0
    if scored.empty and _unjudged(column, runs):
        return UNJUDGED
    if scored.empty:
        return replace(EMPTY, display=EMPTY.display + ("*" if missing else ""), missing=missing)
    n = int(scored[f"{column.key}_n"].sum()) if counts else len(scored)
    value = float(scored[column.key].mean())
    cell = number(value, column.decimals, runs=tuple(scored["run_id"]), n=n, missing=missing)
    definitions = tuple(sorted({each for each in scored[f"{column.key}_definition"] if each})) if counts else ()
    found = final(study, row.name, column.key)
    same = found is not None and set(found.of_seeds) == set(scored["seed"])
    cell = with_ends(replace(cell, definitions=definitions), found if same else None, column.decimals)
    return own_proxy(cell, row, column)


def own_proxy(cell: Cell, row: Row, column: Column) -> Cell:
    """The cell, standing out where it is the proxy that the row was trained on."""
    return replace(cell, strong=column.key == f"proxy/{row.task}" and cell.value is not None)


def _notes(study: Study, frame: pd.DataFrame, rows: dict[str, Row], marks: dict[Over, str]) -> list[str]:
    seeds = {str(name): sorted(part["seed"]) for name, part in frame.groupby("row", sort=False)}
    every = sorted(set(frame["seed"]))
    seeds_used = f"Seed{'s' if len(every) > 1 else ''} {', '.join(map(str, every))}."
    notes = [
        LEGEND,
        *([RELEASED] if study.protocol == "released" else []),
        *intervals(marks),
        *([f"{seeds_used} {_score_counts(study, frame)} The CSV lists every cell's scores and runs."] if every else []),
    ]
    uneven = [f"{name} ({', '.join(map(str, found))})" for name, found in seeds.items() if found != every]
    notes += [f"Not on every seed: {'; '.join(uneven)}."] if uneven else []
    judged = [f"{row.method} ({row.name})" for row in rows.values() if row.setting == JUDGED and row.name in seeds]
    notes += [f"Judged, not trained here: {', '.join(judged)}."] if judged else []
    notes += [f"{name} is shown {end[1]}." for name in seeds if (end := ends(study, name)) and end[1]]
    absent = [name for name in rows if name not in seeds]
    notes += [f"No finished run: {', '.join(absent)}."] if absent else []
    notes += [f"Not used, unfinished: {'; '.join(study.unfinished)}."] if study.unfinished else []
    return notes + _base_notes(study, frame) + _unjudged_notes(frame) + _missing_notes(study, frame)


def intervals(marks: dict[Over, str]) -> list[str]:
    """What brackets hold, and how often such intervals held the truth where it was known; a line per kind and mark."""
    lines = []
    for (over, seeds), mark in marks.items():
        alone = "of this one seed" if seeds == 1 else f"of these {seeds} seeds"
        said = f"prompts alone, {alone}" if over == PROMPTS else f"prompts and {seeds} seeds"
        said += f"; {held_in(1 if over == PROMPTS else seeds, 'such an interval of a mean')} (paper_tables/statistics)."
        lines.append(f"{mark and mark + ' '}In brackets: 95 % intervals over {said}")
    return lines


def _unjudged(column: Column, runs: pd.DataFrame) -> bool:
    """Whether the column waits for a judge; the average waits for every gold."""
    keys = set(" ".join(runs["unjudged"]).split())
    return column.key in keys or (column.key == "gold/average" and any(key.startswith("gold/") for key in keys))


def _unjudged_notes(frame: pd.DataFrame) -> list[str]:
    """Name what nobody has judged yet, run by run."""
    found = [
        f"{', '.join(run['unjudged'].split())} of {run['row']} seed {run['seed']}"
        for run in frame.to_dict("records")
        if run["unjudged"]
    ]
    return [f"Not judged yet, `python -m bench.judge RUNS` does it: {'; '.join(found)}."] if found else []


def _score_counts(study: Study, frame: pd.DataFrame) -> str:
    keys = [f"proxy/{name}" for name in PROXIES] + [f"gold/{name}" for name in study.golds]
    counts = frame[[f"{key}_n" for key in keys]].stack().dropna().astype(int)
    if counts.empty:
        return "No scores."
    low, high = counts.min(), counts.max()
    return f"{low} scores per seed in a cell." if low == high else f"{low} to {high} scores per seed in a cell."


def _base_notes(study: Study, frame: pd.DataFrame) -> list[str]:
    base = {(run.info["backbone"], run.info["seed"]) for run in study.runs if is_base(run)}
    used = set(frame[["backbone", "seed"]].itertuples(index=False, name=None))
    lacking = [f"{backbone} seed {seed}" for backbone, seed in sorted(used - base)]
    return [f"No Average for want of the base model's run: {', '.join(lacking)}."] if lacking else []


def _missing_notes(study: Study, frame: pd.DataFrame) -> list[str]:
    """Name the scores that could not be obtained, scorer by scorer and run by run."""
    keys = [f"proxy/{name}" for name in PROXIES] + [f"gold/{name}" for name in study.golds]
    found = []
    for _, run in frame.iterrows():
        for key in keys:
            if run[f"{key}_missing"] > 0:
                found.append(f"{run[f'{key}_missing']:.0f} of {key} in {run['row']} seed {run['seed']}")
    return [f"* Scores that could not be obtained, left out of the mean: {'; '.join(found)}."] if found else []
