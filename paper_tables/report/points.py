"""The points of the curves: every evaluation of every row, over all seeds with intervals, and seed by seed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from paper_tables.frame import Study, curves
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.budget import budgets, divergence, hacking
from paper_tables.statistics.estimate import updates
from paper_tables.statistics.outcomes import at

ALL = "all"  # the mean over seeds
# What a curve can be drawn against: column of the points, and the words of the axis.
AXES = {
    "update": "optimizer updates",
    "images": "images generated for training",
    "forwards": "forward passes of rollouts",
    "device_seconds": "device-seconds of training",
    "sqrt_kl": "√KL to the base model (nats per image)",
    "proxy": "proxy that is trained on",
}
COLUMNS = ("row", "method", "backbone", "task", "seed", *AXES, "proxy_low", "proxy_high", "gold", "gold_low",
           "gold_high", "hacking")  # fmt: skip


def points(study: Study) -> pd.DataFrame:
    """A line per trained row, seed ("all" for their mean) and evaluation, with COLUMNS.

    `gold` is the gold average over the base model's; intervals stand with the mean over seeds alone; what a record does
    not hold is NaN.
    """
    judged = curves(study)
    parts = []
    for row in dict.fromkeys(judged.loc[judged["task"] != "", "row"]):
        mine = judged[judged["row"] == row].rename(columns={"gold/average": "gold"})
        spent = _spent(study, row)
        for part in (_over_seeds(study, row, mine), mine.assign(seed=mine["seed"].astype(str))):
            parts.append(part.merge(spent, on="update", how="left"))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))


def _over_seeds(study: Study, row: str, mine: pd.DataFrame) -> pd.DataFrame:
    """The row's mean over seeds at every evaluation that all of them have."""
    identity = mine.iloc[0][["row", "method", "backbone", "task"]].to_dict()
    lines = []
    for update in updates(study, row):
        found = {name: at(study, row, key, update) for name, key in (("proxy", "proxy"), ("gold", "gold/average"))}
        lines.append(identity | {"seed": ALL, "update": update} | _flat("proxy", found["proxy"]) | _flat("gold", found["gold"]))
    return pd.DataFrame(lines)


def _flat(name: str, found: Interval | None) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high} if found else {}


def _spent(study: Study, row: str) -> pd.DataFrame:
    """What the row had spent, how far it had gone from the base model, and whether it was hacking, per update."""
    frame = budgets(study, row)[["update", "images", "forwards", "device_seconds"]]
    frame = frame.merge(divergence(study, row)[["update", "sqrt_kl"]], on="update", how="left")
    flags = hacking(study, row)[["update", "flag"]].rename(columns={"flag": "hacking"})
    return frame.merge(flags, on="update", how="left")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines as plain values for the page; None for NaN, five significant digits."""
    rounded = frame.map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value)
    return rounded.astype(object).where(rounded.notna(), None).to_dict("records")
