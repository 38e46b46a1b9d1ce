"""The bands about curves: intervals of the change since the base model, put where the base model is."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from paper_tables.frame import Study
from paper_tables.statistics.training import hacking

KEYS = {"proxy": "proxy_gain", "gold/average": "gold_gain"}
COLUMNS = ["row", "update", *(f"{key}{end}" for key in KEYS for end in ("_low", "_high"))]


def bands(study: Study, rows: Iterable[str], curves: pd.DataFrame) -> pd.DataFrame:
    """A line per row and evaluation with COLUMNS; none of a row without a base model, or without scores of images.

    What a row shares with its base model, its prompts, is in no band.

    Args:
        curves: the levels, a line per row, update and perhaps seed: proxy, gold/average.
    """
    gains = [found.assign(row=row) for row in dict.fromkeys(rows) if len(found := hacking(study, row))]
    if not gains:
        return pd.DataFrame(columns=COLUMNS).astype({"update": "int64"} | dict.fromkeys(COLUMNS[2:], "float64"))
    levels = curves.groupby(["row", "update"], as_index=False)[list(KEYS)].mean()
    found = pd.concat(gains, ignore_index=True).merge(levels, on=["row", "update"])
    for key, gain in KEYS.items():
        for end in ("_low", "_high"):
            found[key + end] = found[key] - found[gain] + found[gain + end]
    return found[COLUMNS]


def over(curves: pd.DataFrame) -> str:
    """What the bands of curves with their number of `seeds` are, in words; empty where there are none."""
    if not set(COLUMNS) <= set(curves) or curves[COLUMNS].isna().all(axis=None):
        return ""
    counts = sorted({int(n) for n in curves["seeds"]})
    seeds = "prompts alone, of one seed" if counts[-1] == 1 else f"prompts and {' or '.join(map(str, counts))} seeds"
    seeds += ", of one seed prompts alone" if counts[0] == 1 < counts[-1] else ""
    return f"bands: 95 % intervals of the change since the base model, over {seeds}"
