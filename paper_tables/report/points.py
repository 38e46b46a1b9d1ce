"""The points of the curves: every evaluation of every row, over all seeds with intervals, and seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from paper_tables import frame as measured
from paper_tables.bands import bands
from paper_tables.frame import Study

ALL = "all"  # the mean over seeds
# What a curve can be drawn against: column of the points, and the words of the axis.
AXES = {
    "update": "optimizer updates",
    "images": "images generated for training",
    "forwards": "forward passes of rollouts",
    "device_seconds": "device-seconds of training",
    "sqrt_kl": "√KL to the base model (nats)",
    "proxy": "the proxy that is trained on",
}
IDENTITY = ["row", "method", "backbone", "task"]
ENDS = ["proxy_low", "proxy_high", "gold", "gold_low", "gold_high"]
COLUMNS = [*IDENTITY, "seed", *AXES, *ENDS, "hacking"]
OF_THE_ROW = ["row", "update", "images", "forwards", "device_seconds", "sqrt_kl", "hacking"]
_SHORTER = {f"gold/average{end}": f"gold{end}" for end in ("", "_low", "_high")}


def points(study: Study, curves: Path) -> pd.DataFrame:
    """A line per trained row, seed ("all" for their mean) and evaluation, with COLUMNS.

    `gold` is the gold average over the base model's. The ends of an interval are those of the change since the base
    model, put where the base model is; they stand with the mean over seeds alone. Budgets, distance and flag are the
    row's, over all seeds. What a record does not hold is NaN.

    Args:
        curves: the file that `statistics.write` wrote of the study, so that the page shows what the file says.
    """
    levels = measured.curves(study)
    levels = levels[levels["task"] != ""]
    each = levels.rename(columns=_SHORTER)
    if each.empty:
        return pd.DataFrame(columns=COLUMNS)
    mean = pd.read_csv(curves).rename(columns=_SHORTER).drop(columns=["proxy_low", "proxy_high"])
    ends = bands(study, levels["row"], levels)[["row", "update", "proxy_low", "proxy_high"]]
    mean = mean.merge(ends, on=["row", "update"], how="left")
    mean = mean.merge(each.drop_duplicates("row")[IDENTITY], on="row").assign(seed=ALL)
    alone = each[[*IDENTITY, "seed", "update", "proxy", "gold"]].merge(
        mean[OF_THE_ROW], on=["row", "update"], how="left"
    )
    found = pd.concat([mean, alone.astype({"seed": str})], ignore_index=True).reindex(columns=COLUMNS)
    known = found["proxy"].notna() | found["gold"].notna()
    return found[known].reset_index(drop=True)


def records(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines as plain values for the page; None for NaN, five significant digits."""
    rounded = found.map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value)
    lines = rounded.astype(object).where(rounded.notna(), None).to_dict("records")
    return [{str(name): value for name, value in line.items()} for line in lines]
