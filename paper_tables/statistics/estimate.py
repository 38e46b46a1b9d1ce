"""From the name of a measure to its interval: which panels it needs, aligned, and what is computed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.experiments import PROXIES, ROWS, TABLE1
from paper_tables.average import average
from paper_tables.comparable import trained as trained_here
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import AcrossSeeds, Interval, interval, intervals, mean, strata
from paper_tables.statistics.panel import Column, Floats, Panel, cube, judged_by

AVERAGE = "gold/average"
PROXY = "proxy"
Combine = Callable[..., Floats]


@dataclass(frozen=True)
class Ask:
    """A measure of one row at some of its evaluations.

    Attributes:
        key: gold/average, gold/NAME, proxy (the row's own), proxy/NAME or picture/NAME.
        half: 0 or 1 for every other prompt alone; None for all.
    """

    row: str
    key: str
    updates: tuple[int, ...]
    half: int | None = None


def estimate(study: Study, asks: Sequence[Ask], combine: Combine, across_seeds: AcrossSeeds = mean) -> Interval | None:
    """The interval of a combination of measures, over the seeds that all of them have.

    Args:
        combine: from one (R, S, U) array for each of `asks` to (R, S).

    Returns:
        None where a measure does not exist or no seed has all of them.
    """
    panels = aligned(study, asks)
    if panels is None:
        return None
    found = interval(lambda *means: combine(*levels(asks, means)), *panels, across_seeds=across_seeds)
    return replace(found, note=left_out(study, asks, found.of_seeds))


def estimate_each(study: Study, asks: Sequence[Ask], combine: Combine) -> list[Interval] | None:
    """The same for K combinations at once: `combine` gives (R, S, K)."""
    panels = aligned(study, asks)
    if panels is None:
        return None
    note = left_out(study, asks, panels[0].seeds)
    return [replace(each, note=note) for each in intervals(lambda *means: combine(*levels(asks, means)), *panels)]


def levels(asks: Sequence[Ask], means: Sequence[Floats]) -> Iterator[Floats]:
    """(R, S, U) of each of `asks`, from the (R, S, C) means of its panels in the order of `aligned`."""
    left = iter(means)
    for ask in asks:
        scores = next(left)
        shaped = scores.reshape(*scores.shape[:2], len(ask.updates), -1)
        yield average(shaped, next(left)[:, :, None, :]) if ask.key == AVERAGE else shaped[..., 0]


def aligned(study: Study, asks: Sequence[Ask]) -> tuple[Panel, ...] | None:
    """A panel for each of `asks`, an Average's followed by its base model's; on common seeds and prompts."""
    panels: list[tuple[Ask, Panel, list[Column]]] = []
    for ask in asks:
        needed = _needed(study, ask)
        if not needed:
            return None
        panels += [(ask, whole, columns) for whole, columns in needed]
    kept = [seed for seed in panels[0][1].seeds if all(_has(whole, columns, seed) for _, whole, columns in panels)]
    if not kept:
        return None
    found = common_prompts([whole.select(columns, kept) for _, whole, columns in panels])
    if all(ask.half is None for ask, _, _ in panels):
        return found
    halves, of = _halves(found), [ask.half for ask, *_ in panels]
    return common_prompts([p if h is None else p.masked(halves == h) for p, h in zip(found, of, strict=True)])


def _needed(study: Study, ask: Ask) -> list[tuple[Panel, list[Column]]]:
    """The rows' scores and columns that a measure is made of; none where it does not exist."""
    names, base = scorers(study, ask.row, ask.key), base_row(study, ask.row)
    if not names or not ask.updates or (ask.key == AVERAGE and base is None):
        return []
    mine = (cube(study, ask.row), [(update, name) for update in ask.updates for name in names])
    return [mine, (cube(study, base), [(0, name) for name in names])] if ask.key == AVERAGE and base else [mine]


def left_out(study: Study, asks: Sequence[Ask], kept: Sequence[int]) -> str:
    """Which seeds that all rows were judged under are not among `kept`, and what they lack; else empty."""
    judged = set.intersection(*(set(cube(study, ask.row).seeds) for ask in asks))
    return "; ".join(f"seed {seed} is left out, {_lack(study, asks, seed)}" for seed in sorted(judged - set(kept)))


def _lack(study: Study, asks: Sequence[Ask], seed: int) -> str:
    for ask in asks:
        had = [_has(whole, columns, seed) for whole, columns in _needed(study, ask)]
        if not all(had):
            whose = f"{ask.row} at update {max(ask.updates)}" if not had[0] else f"the base model of {ask.row}"
            return f"it lacks {ask.key} of {whose}"
    return "it lacks nothing"


def ends(study: Study, *names: str) -> tuple[tuple[int, ...], str] | None:
    """The update at which each row is judged at its end, and a note where that is not what all were trained for.

    It is the planned number of updates, whatever could be judged there. Where the runs of the trained rows were planned
    for different numbers, it is the last evaluation that all have, so that equal updates are compared. A base model has
    its one evaluation, and so has an adapter that was trained elsewhere. None where a row has no such evaluation.
    """
    runs = {name: [run for run in study.runs if run.info["row"] == name] for name in names}
    planned = {name: sorted({int(run.info["updates"]) for run in runs[name] if trained_here(run)}) for name in names}
    budgets = sorted(set().union(*planned.values()))
    judged = {name: {update for update, _ in cube(study, name).columns} for name in names}
    common = [judged[name] for name in names if planned[name]]
    if not all(judged.values()):
        return None
    last, note = budgets[0] if budgets else 0, ""
    if len(budgets) > 1:
        shared = [update for update in set.intersection(*common) if 0 < update <= last]
        if not shared:
            return None
        last = max(shared)
        plans = "; ".join(f"{name} for {' and '.join(map(str, of))}" for name, of in planned.items() if of)
        note = f"at update {last}, the last that all have; trained: {plans}"
    return tuple(last if planned[name] else max(judged[name]) for name in names), note


def run_ids(study: Study, found: Interval | None, key: str, *names: str) -> tuple[str, ...]:
    """Ids of the runs behind an interval of `names`: of the seeds that it used, base models of an Average among them.

    All runs of `names` where there is no interval.
    """
    bases = [base_row(study, name) for name in names] if key == AVERAGE else []
    chosen = [run for run in study.runs if run.info["row"] in {*names, *bases}]
    used = {run.info["seed"] for run in chosen} if found is None else set(found.of_seeds)
    return tuple(run.info["run_id"] for run in chosen if run.info["seed"] in used)


def common_prompts(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """The panels on all prompts that one of them judges, by name."""
    parts: dict[str, str] = {}
    for panel in panels:
        judged = np.asarray(judged_by(panel).any(axis=1))
        for prompt, part, seen in zip(panel.prompts, panel.parts, judged, strict=True):
            if seen:
                parts[prompt] = parts.get(prompt) or part
    prompts = sorted(parts)
    return tuple(panel.of(prompts, [parts[prompt] for prompt in prompts]) for panel in panels)


def scorers(study: Study, row: str, key: str) -> tuple[str, ...]:
    """The scorers behind a key; none where the row has no such measure.

    Raises:
        ValueError: no measure is called `key`.
    """
    if key == AVERAGE:
        return study.golds
    if key == PROXY:
        task = task_of(study, row)
        return (task,) if task else ()
    section, _, name = key.partition("/")
    known = {"gold": study.golds, "proxy": PROXIES}.get(section, (name,) if section == "picture" else ())
    if name not in known or not name:
        raise ValueError(f"wanted gold/average, gold/NAME, proxy, proxy/NAME or picture/NAME, found {key!r}")
    return (name,)


@lru_cache(maxsize=2048)
def updates(study: Study, row: str, key: str = AVERAGE) -> tuple[int, ...]:
    """The updates up to the row's end at which every seed that has the measure at the end has it; ascending.

    Where no seed has it at the end, those at which every seed that was judged at all has it.
    """
    names, whole = scorers(study, row, key), cube(study, row)
    end = ends(study, row)
    if not names or end is None:
        return ()
    last = end[0][0]
    found = sorted({update for update, _ in whole.columns if update <= last})
    wanted = {update: [(update, name) for name in names] for update in {*found, last}}
    seeds = [seed for seed in whole.seeds if _has(whole, wanted[last], seed)] or whole.seeds
    return tuple(update for update in found if all(_has(whole, wanted[update], seed) for seed in seeds))


def task_of(study: Study, row: str) -> str:
    """The proxy that the row is trained on; empty for a base model."""
    return next((str(run.info["task"]) for run in study.runs if run.info["row"] == row), "")


def base_row(study: Study, row: str) -> str | None:
    """The base model's row of the same backbone; None where the row has no run."""
    backbone = next((run.info["backbone"] for run in study.runs if run.info["row"] == row), None)
    return next((name for name, each in TABLE1.items() if not each.recipe and each.backbone == backbone), None)


def rows(study: Study) -> tuple[str, ...]:
    """The rows with a finished run, in the order of the study."""
    return tuple(dict.fromkeys(str(run.info["row"]) for run in study.runs))


def trained(study: Study, row: str) -> bool:
    """Whether the row is more than a base model."""
    return bool(task_of(study, row)) and (row not in ROWS or bool(ROWS[row].recipe))


def _has(whole: Panel, columns: Sequence[tuple[int, str]], seed: int) -> bool:
    if seed not in whole.seeds or not set(columns) <= set(whole.columns):
        return False
    return bool(np.isfinite(whole.select(columns, [seed]).values).any(axis=(0, 1)).all())


def _halves(panels: Sequence[Panel]) -> NDArray[np.int64]:
    """(P,) 0 or 1: every other prompt of each stratum, in the order of the prompts' ids, which are hashes."""
    labels = strata(*panels)
    halves = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        halves[members] = np.arange(len(members)) % 2
    return halves
