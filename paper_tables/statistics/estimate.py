"""From the name of a measure to its interval: which panels it needs, aligned, and what is computed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bench.experiments import PROXIES, ROWS, TABLE1
from paper_tables.average import average
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import AcrossSeeds, Interval, interval, intervals, mean
from paper_tables.statistics.panel import Floats, Panel, Same, cube, judged_by

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
    return interval(lambda *means: combine(*levels(asks, means)), *panels, across_seeds=across_seeds)


def estimate_each(study: Study, asks: Sequence[Ask], combine: Combine) -> list[Interval] | None:
    """The same for K combinations at once: `combine` gives (R, S, K)."""
    panels = aligned(study, asks)
    return None if panels is None else intervals(lambda *means: combine(*levels(asks, means)), *panels)


def levels(asks: Sequence[Ask], means: Sequence[Floats]) -> Iterator[Floats]:
    """(R, S, U) of each of `asks`, from the (R, S, C) means of its panels in the order of `aligned`."""
    left = iter(means)
    for ask in asks:
        scores = next(left)
        shaped = scores.reshape(*scores.shape[:2], len(ask.updates), -1)
        yield average(shaped, next(left)[:, :, None, :]) if ask.key == AVERAGE else shaped[..., 0]


def aligned(study: Study, asks: Sequence[Ask]) -> tuple[Panel, ...] | None:
    """A panel for each of `asks`, an Average's followed by its base model's; on common seeds and prompts."""
    panels = []
    for ask in asks:
        names = scorers(study, ask.row, ask.key)
        base = base_row(study, ask.row)
        if not names or not ask.updates or (ask.key == AVERAGE and base is None):
            return None
        panels.append((ask, cube(study, ask.row), [(update, name) for update in ask.updates for name in names]))
        if ask.key == AVERAGE and base is not None:
            panels.append((ask, cube(study, base), [(0, name) for name in names]))
    kept = [seed for seed in panels[0][1].seeds if all(_has(whole, columns, seed) for _, whole, columns in panels)]
    if not kept:
        return None
    found = [_half(whole.select(columns, kept), ask.half) for ask, whole, columns in panels]
    return common_prompts(found)


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


def updates(study: Study, row: str, key: str = AVERAGE) -> tuple[int, ...]:
    """The updates at which every seed of the row that was judged at all has the measure; ascending."""
    return _updates(Same(study), row, key)


@lru_cache(maxsize=2048)
def _updates(same: Same, row: str, key: str) -> tuple[int, ...]:
    study: Study = same.thing
    names, whole = scorers(study, row, key), cube(study, row)
    found = sorted({update for update, _ in whole.columns})
    wanted = {update: [(update, name) for name in names] for update in found}
    if not names:
        return ()
    return tuple(u for u in found if whole.seeds and all(_has(whole, wanted[u], seed) for seed in whole.seeds))


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


def _half(panel: Panel, half: int | None) -> Panel:
    """Every other prompt of each stratum, in the order of the prompts' ids, which are hashes."""
    if half is None:
        return panel
    keep, seen = np.zeros(len(panel.prompts), dtype=bool), dict[bytes, int]()
    judged = judged_by(panel)
    for index, judges in enumerate(judged):
        pattern = judges.tobytes()
        keep[index] = seen.get(pattern, half) % 2 == 0
        seen[pattern] = seen.get(pattern, half) + 1
    return panel.masked(keep)
