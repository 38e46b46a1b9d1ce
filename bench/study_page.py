"""STUDY.md of a folder of cells: with what they were made, how long it took, and what was tried before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench import cells, ledger
from bench.experiments import BACKBONES, ROWS
from bench.ledger import Run
from bench.ledger.runs import SETTINGS

PAGE, TRIED = "STUDY.md", "TRIED.md"
INTRODUCTION = """\
# The tiny study: what was trained, and with what

Every row of the paper's Tables 1 and 2, and the rows beside them, trained on the little world, whose pipelines have
SD3's and Flux's architecture and 1.4 million parameters each: nothing here was trained at full size. What came of it is
in the tables, figures and claims beside this page.

A *cell*, `cells/ROW/seedN`, is one training run packed into small files: its settings, scores, diagnostics and, of
seed 0, some pictures. This page is written by `python -m bench.study` from the cells; do not edit it. Tables, figures
and claims are made of the same cells by `make results`. `python -m bench.study --check ROW SEED` trains one cell anew
and compares it with the committed one."""


def write(kept: Path, out: Path) -> Path:
    """Writes the page of the cells in `kept` into `out`, with what the file TRIED.md there says; returns its path.

    Raises:
        LedgerError: a cell cannot be read.
    """
    runs = _runs(kept)
    others = {name: _runs(folder) for name, folder in ledger.varied(kept).items()}
    tried = out / TRIED
    said = tried.read_text(encoding="utf-8").strip() if tried.exists() else "Not written down yet."
    everything = [*runs, *(run for found in others.values() for run in found)]
    varied = [f"With other settings, for claim C18, `{SETTINGS}/{name}`: {contents(of)}" for name, of in others.items()]
    parts = [INTRODUCTION, contents(runs), *varied, made_with(everything), durations(runs)]
    parts.append(f"## What was tried before\n\n{said}")
    out.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return out / PAGE


def _runs(kept: Path) -> list[Run]:
    """The cells of a folder, in the order of the tables."""
    order = {name: number for number, name in enumerate(ROWS)}
    found = ledger.load(kept) if kept.is_dir() else []
    return sorted(found, key=lambda run: (order.get(run.info["row"], len(order)), run.info["row"], run.info["seed"]))


def contents(runs: Sequence[Run]) -> str:
    """How many cells there are, of how many rows and seeds, and which are lacking."""
    rows, seeds = (sorted({run.info[key] for run in runs}) for key in ("row", "seed"))
    if not runs:
        return "No cell is finished yet."
    there = {(run.info["row"], run.info["seed"]) for run in runs}
    lacking = [f"{row} seed {seed}" for row in rows for seed in seeds if (row, seed) not in there]
    said = f"{len(runs)} cells: {len(rows)} rows with {_seeds(seeds)}"
    if lacking:
        return f"{said}; lacking: {', '.join(lacking)}."
    return f"{said}." + (" **One seed says nothing of another training run.**" if len(seeds) == 1 else "")


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def made_with(runs: Sequence[Run]) -> str:
    """Which cells were made by which commit, with which packages, on which type of CPU: a line for each making."""
    lines = ["| cells | seeds | commit of this repository | type of CPU | packages |", "|---|---|---|---|---|"]
    for making in dict.fromkeys(map(_making, runs)):
        mine = [run for run in runs if _making(run) == making]
        seeds = ", ".join(map(str, sorted({run.info["seed"] for run in mine})))
        lines.append(f"| {' | '.join([str(len(mine)), seeds, *making])} |")
    return "\n".join(["## What made the cells", "", *lines])


def _making(run: Run) -> tuple[str, str, str]:
    cpu = json.loads((run.path / cells.CELL).read_text(encoding="utf-8"))["cpu"]
    versions = ", ".join(f"{name} {version}" for name, version in run.info["versions"].items())
    return run.info["git_commit"] or "unknown", cpu, versions


def durations(runs: Sequence[Run]) -> str:
    """Per row its method and budget, the seeds that have a cell, and the time of a seed on one core."""
    head = "| row | backbone | method | proxy trained on | updates | seeds | minutes a seed |"
    lines = ["## Rows", "", head, "|---|---|---|---|---|---|---|"]
    for row in dict.fromkeys(run.info["row"] for run in runs):
        mine = [run for run in runs if run.info["row"] == row]
        info, took = mine[0].info, [seconds(run) for run in mine]
        method, proxy = (info["method"], info["task"]) if info["task"] else ("none: the base model", "—")
        seeds = ", ".join(str(run.info["seed"]) for run in mine)
        named = f"{row} | {BACKBONES[info['scale']][info['backbone']]} | {method} | {proxy}"
        lines.append(f"| {named} | {info['updates']} | {seeds} | {sum(took) / len(took) / 60:.1f} |")
    total = sum(seconds(run) for run in runs) / 3600
    whole = f"Together {total:.1f} hours of one process each, evaluations included; other work may have run beside."
    return "\n".join([*lines, "", whole])


def seconds(run: Run) -> float:
    """Of a process, in epochs and evaluations."""
    times = run.times().reindex(columns=["seconds", "evaluation_seconds"])
    return float(times.sum().sum())
