"""Proxy and gold on one scale, on which a chart shows them part: each over its value at update 0, the base model's.

Before its first update a run is its base model, judged on the same prompts and seed. Nothing of this is in the record:
it follows from it, also where a judge was asked later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PROXY, AVERAGE = "proxy/normalized", "gold/average"
Points = dict[tuple[str, int], float]


def scaled(rows: Iterable[Mapping[str, Any]], task: str, golds: Sequence[str]) -> Points:
    """What follows from the lines of metrics.jsonl, by metric and update; what cannot be told yet is left out.

    `proxy/normalized` is proxy / proxy at update 0; `gold/average` is the mean over the golds of score / score at
    update 0 (Table 1, "Average"); `gap/average` is their difference, and `gap/NAME` that to one gold. As in the table
    there is no ratio to a base score that is not positive, and no average of fewer golds.

    Args:
        task: the proxy that is trained on; empty for a base model, which has no proxy and no gap.
    """
    names = [f"proxy/{task}", *(f"gold/{gold}" for gold in golds)]
    found = _by_update(rows, names)
    base = {name: value for name, value in found.get(0, {}).items() if value > 0}
    points: Points = {}
    for update, values in found.items():
        ratios = {name: value / base[name] for name, value in values.items() if name in base}
        points |= {(name, update): value for name, value in _of_update(ratios, names).items()}
    return points


def _of_update(ratios: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The ratios of one evaluation, by the names that they are shown under."""
    proxy, golds = ratios.get(names[0]), {name: ratios[name] for name in names[1:] if name in ratios}
    shown = {} if proxy is None else {PROXY: proxy}
    if names[1:] and len(golds) == len(names) - 1:
        shown[AVERAGE] = sum(golds.values()) / len(golds)
    if proxy is None:
        return shown
    behind = golds | {name: value for name, value in shown.items() if name == AVERAGE}
    return shown | {f"gap/{name.removeprefix('gold/')}": proxy - value for name, value in behind.items()}


def _by_update(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> dict[int, dict[str, float]]:
    """Scores by update and name: what was judged later is a line of its own, and a score that is missing is null."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        given = {name: float(row[name]) for name in names if row.get(name) is not None}
        scores = {name: value for name, value in given.items() if math.isfinite(value)}
        if scores:
            found[int(row["update"])] = scores | found.get(int(row["update"]), {})
    return found
