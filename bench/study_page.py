"""STUDY.md of a folder of cells: with what they were made, how long it took, and what was tried before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import cells, ledger
from bench.experiments import ROWS
from bench.ledger import Run

PAGE, TRIED = "STUDY.md", "TRIED.md"
INTRODUCTION = """\
# The tiny study

Written by `python -m bench.study` from the cells in `cells/`, one folder for each row and seed; do not edit. Tables,
figures, statistics and claims beside this page are made of the same cells: `make results`. `python -m bench.study
--check ROW SEED` trains one cell anew and compares it with the committed one."""


def write(kept: Path, out: Path) -> Path:
    """Writes the page of the cells in `kept` into `out`, with what the file TRIED.md there says; returns its path.

    Raises:
        LedgerError: a cell cannot be read.
    """
    order = {name: number for number, name in enumerate(ROWS)}
    found = ledger.load(kept) if kept.is_dir() else []
    runs = sorted(found, key=lambda run: (order.get(run.info["row"], len(order)), run.info["row"], run.info["seed"]))
    tried = out / TRIED
    said = tried.read_text(encoding="utf-8").strip() if tried.exists() else "Not written down yet."
    parts = [INTRODUCTION, made_with(runs), durations(runs), f"## What was tried before\n\n{said}"]
    out.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return out / PAGE


def made_with(runs: Sequence[Run]) -> str:
    """Commits, packages and CPUs of the cells."""
    versions = [" ".join(f"{name} {version}" for name, version in run.info["versions"].items()) for run in runs]
    lines = {
        "cells": str(len(runs)),
        "seeds": ", ".join(map(str, sorted({run.info["seed"] for run in runs}))),
        "commit": _counted(run.info["git_commit"] or "unknown" for run in runs),
        "packages": _counted(versions),
        "CPU": _counted(json.loads((run.path / cells.CELL).read_text(encoding="utf-8"))["cpu"] for run in runs),
    }
    return "\n".join(["| made with | |", "|---|---|", *(f"| {name} | {value} |" for name, value in lines.items())])


def _counted(values: Iterable[str]) -> str:
    found = Counter(values)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} ({count} cells)" for value, count in found.items())


def durations(runs: Sequence[Run]) -> str:
    """Per row its budget, the seeds that have a cell, and the time of a seed on one core."""
    lines = ["| row | method | proxy | updates | seeds | minutes a seed |", "|---|---|---|---|---|---|"]
    for row in dict.fromkeys(run.info["row"] for run in runs):
        mine = [run for run in runs if run.info["row"] == row]
        info, took = mine[0].info, [seconds(run) for run in mine]
        seeds = ", ".join(str(run.info["seed"]) for run in mine)
        minutes = f"{sum(took) / len(took) / 60:.1f}"
        lines.append(f"| {row} | {info['method']} | {info['task']} | {info['updates']} | {seeds} | {minutes} |")
    total = sum(seconds(run) for run in runs) / 3600
    whole = f"All together {total:.1f} hours of a process, evaluations included; other work may have run beside."
    return "\n".join([*lines, "", whole])


def seconds(run: Run) -> float:
    """Of a process, in epochs and evaluations."""
    times = run.times().reindex(columns=["seconds", "evaluation_seconds"])
    return float(times.sum().sum())
