"""statistics.csv and curves.csv: every number of a study with its interval and its runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.experiments import GUARD, PAIRS, PROXIES, TABLE1
from paper_tables import published
from paper_tables.frame import Study
from paper_tables.statistics import training
from paper_tables.statistics.bootstrap import BOTH, PROMPTS, Interval, interquartile_mean
from paper_tables.statistics.budgets import budgets
from paper_tables.statistics.coverage import held_in
from paper_tables.statistics.distance import difference_at_distance, divergence
from paper_tables.statistics.estimate import AVERAGE, PROXY, base_row, rows, run_ids, trained, updates
from paper_tables.statistics.outcomes import along, difference, final, wins
from paper_tables.statistics.panel import cube
from paper_tables.statistics.power import needed

Line = dict[str, Any]
ENDS = ("value", "low", "high", "over", "prompts", "seeds", "level")
LAST_DIGIT = 0.01  # Table 1 prints Averages to two decimals
OF_ONE = ("mean", "interquartile mean", "fall from peak")  # `other` is the base model, which an Average needs
FLOATS = "%.8g"  # our choice: what a sum's order, and so another machine, does not change
FEWEST_FOR_QUARTILES = 4  # below, no quarter of the seeds is a whole seed


def write(study: Study, out: Path) -> None:
    """Write statistics.csv and curves.csv into `out`, and print each row's last scores.

    Raises:
        StudyError: a record is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {"statistics.csv": statistics(study), "curves.csv": curves(study)}
    for name, frame in found.items():
        frame.to_csv(out / name, index=False, lineterminator="\n", float_format=FLOATS)
    print("\n".join(summary(study)))
    print("\nStatistics:", *(f"  {out / name}" for name in found), sep="\n")


def statistics(study: Study) -> pd.DataFrame:
    """A line per row, key and method: value, low, high, over, prompts, seeds, level, note, runs.

    Methods: mean and interquartile mean over seeds at the last evaluation; difference from `other`, the row's method
    without what is new in it, also at matched proxy and at equal KL to the base model; won, all up, all down
    against the base; area, fall; power, how many seeds would resolve the printed effect, in its note.
    """
    lines: list[Line] = []
    for row in rows(study):
        lines += _of_row(study, row)
        other = reference(study, row)
        lines += _of_pair(study, row, other) if other else []
    return pd.DataFrame(lines, columns=["row", "other", "key", "method", *ENDS, "note", "runs"])


def curves(study: Study) -> pd.DataFrame:
    """A line per row and evaluation: proxy, golds and their average with _low and _high, sqrt_kl, budgets, flag."""
    frame = pd.concat([_curve(study, row) for row in rows(study)], ignore_index=True)
    first = ["row", "seeds", "over", "update"]
    return frame[[*first, *(name for name in frame if name not in first)]]


def summary(study: Study) -> list[str]:
    """What is printed: the intervals of each row, and how far they may be trusted."""
    lines = [f"{'row':28}{'gold average':>20}{'its proxy':>24}"]
    ends = []
    for row in rows(study):
        gold, proxy = final(study, row), final(study, row, PROXY)
        lines.append(f"{row:28}{gold.display() if gold else '-':>20}{proxy.display() if proxy else '-':>24}")
        ends += [end for end in (gold, proxy) if end]
    for seeds in sorted({end.seeds for end in ends}):
        over = next(end.over for end in ends if end.seeds == seeds)
        of = "seed; another seed may differ by more" if over == PROMPTS else "seeds"
        lines.append(f"95 % intervals over {over}, {seeds} {of}; {held_in(seeds, 'such an interval of a mean')}.")
    return lines


def reference(study: Study, row: str) -> str | None:
    """The row of the same backbone and proxy whose method is the plain base method; None if that is the row itself."""
    found = {each.name: each for each in study.rows}
    mine = found[row]
    if not mine.task:
        return None
    plain = (r.name for r in TABLE1.values() if (r.backbone, r.task) == (mine.backbone, mine.task) and _plain(r.name))
    return next((name for name in plain if name in found and name != row), None)


def pictures(study: Study, row: str) -> tuple[str, ...]:
    """The keys of the statistics of the row's pictures."""
    judges = {*PROXIES, *study.golds}
    return tuple(sorted({f"picture/{name}" for _, name in cube(study, row).columns if name not in judges}))


def _plain(name: str) -> bool:
    """Whether the row is FlowGRPO or DanceGRPO, on which all other rows are built."""
    return TABLE1[name].setting in ("FG", "DG") and TABLE1[name].method != GUARD


def _keys(study: Study, row: str) -> tuple[str, ...]:
    golds = [f"gold/{name}" for name in study.golds]
    return (AVERAGE, *golds, PROXY, *(f"proxy/{name}" for name in PROXIES), *pictures(study, row))


def _of_row(study: Study, row: str) -> Iterator[Line]:
    line = partial(_line, study, row, base_row(study, row) or "")
    for key in _keys(study, row):
        whole = final(study, row, key)
        yield from line(key, "mean", whole)
        if whole and whole.seeds >= FEWEST_FOR_QUARTILES:
            yield from line(key, "interquartile mean", final(study, row, key, interquartile_mean))
    won = wins(study, row) if trained(study, row) else None
    for gold, share in won.of.items() if won else ():
        yield from line(f"gold/{gold}", "won", share)
    if won:
        yield from line("gold", "all up", won.all_up)
        yield from line("gold", "all down", won.all_down)
    top = training.peak(study, row)
    if top:
        yield from line(AVERAGE, "fall from peak", top.fall, f"peak {top.value:.4f} at update {top.update}")


def _of_pair(study: Study, row: str, other: str) -> Iterator[Line]:
    line = partial(_line, study, row, other)
    for key in _keys(study, row):
        yield from line(key, "difference", difference(study, row, other, key))
    yield from line(AVERAGE, "area between per update", training.area_between(study, row, other))
    size, source = _effect(row, other)
    words = f"{needed(study, row, other, size)} to find {size:.2g} ({source})"
    yield from line(AVERAGE, "power", None, words, always=True)
    matched = training.matched_gold(study, row, other)
    note = matched.reason or f"proxy {matched.low:.4f} to {matched.high:.4f}"
    yield from line(AVERAGE, "difference at matched proxy", matched.interval, note, always=True)
    for key in (AVERAGE, *(f"gold/{name}" for name in study.golds), PROXY):
        apart = difference_at_distance(study, row, other, key)
        note = apart.reason or f"sqrt(KL) {apart.reach:.4f}"
        yield from line(key, "difference at equal KL", apart.interval, note, always=key == AVERAGE)


def _effect(row: str, other: str) -> tuple[float, str]:
    """The effect on the Average that a pair is to resolve, and where it is from."""
    if any((pair.guard.name, pair.base.name) == (row, other) for pair in PAIRS):
        return float(published.table1()["d_average"][row]), "what Table 1 prints"
    return LAST_DIGIT, "the last digit of a printed Average"


def _line(
    study: Study, row: str, other: str, key: str, method: str, found: Interval | None, note: str = "",
    always: bool = False,
) -> Iterator[Line]:  # fmt: skip
    """The line of an interval; none where there is no interval, unless the note says why."""
    if found is None and not always:
        return
    names = (row, other) if method not in OF_ONE else (row,)
    runs = run_ids(study, found, key, *names)
    ends = {name: getattr(found, name) for name in ENDS} if found else {}
    note = "; ".join(filter(None, (note, found.note if found else "")))
    yield {"row": row, "other": other, "key": key, "method": method, **ends, "note": note, "runs": " ".join(runs)}


def _curve(study: Study, row: str) -> pd.DataFrame:
    frame = budgets(study, row)
    for key in (AVERAGE, *(f"gold/{name}" for name in study.golds), PROXY):
        steps = updates(study, row, key)
        found = along(study, row, key, steps) or []
        ends = {key: "value", f"{key}_low": "low", f"{key}_high": "high"}
        lines = pd.DataFrame([{column: getattr(each, end) for column, end in ends.items()} for each in found])
        frame = frame.merge(
            lines.reindex(columns=list(ends)).assign(update=np.array(steps, dtype=np.int64)), on="update", how="left"
        )
    distance = divergence(study, row)[["update", "sqrt_kl"]]
    flags = training.hacking(study, row)[["update", "flag"]].rename(columns={"flag": "hacking"})
    seeds = len(cube(study, row).seeds)
    return (
        frame.merge(distance.astype({"update": np.int64}), on="update", how="left")
        .merge(flags.astype({"update": np.int64}), on="update", how="left")
        .assign(row=row, seeds=seeds, over=BOTH if seeds > 1 else PROMPTS)
    )
