"""Figure 7 (the poster's numbering; 9 in the arXiv version): the ablation of Table 2."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments import TABLE2, Row
from paper_tables.bands import over
from paper_tables.palette import COLOURS, GREY
from paper_tables.style import canvas, label_ends, styled

BAND, FEW = 0.15, 4  # our choice: more bands than these on each other are drawn paler, so that lines are seen


@styled
def figure7(curves: pd.DataFrame, golds: tuple[str, ...]) -> Figure:
    """Proxy and gold average against updates, and below them every gold score alone.

    Args:
        curves: as `frame.seed_mean` gives them, perhaps with the columns of `bands.bands`; rows other than Table 2's
            are left out, and those of Table 2 that are not there are named in the figure.
        golds: names of the gold scorers.
    """
    figure = canvas(4.6)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.5, 1], squeeze=False).flat
    main = [("proxy", f"proxy: {TABLE2['baseline'].task}"), ("gold/average", "gold average / base")]
    for axes, (column, title) in zip(upper.subplots(1, 2, squeeze=False).flat, main, strict=True):
        draw(axes, curves, TABLE2.values(), column, title, labels=True)
        axes.set_xlabel("optimizer updates")
    if words := over(curves):
        upper.supxlabel(words, fontsize=6.5, color=GREY)
    small = lower.subplots(1, len(golds), sharey=True, squeeze=False)
    for axes, gold in zip(small.flat, golds, strict=True):
        draw(axes, curves, TABLE2.values(), f"relative/{gold}", f"{gold} / base", width=0.9)
        axes.set_xlabel("optimizer updates")
    absent = [row.method for row in TABLE2.values() if row.name not in set(curves["row"])]
    if absent:
        lower.supxlabel(f"not run: {', '.join(absent)}", fontsize=7, color=GREY)
    return figure


def draw(
    axes: Axes, curves: pd.DataFrame, rows: Collection[Row], column: str, title: str, *,
    width: float = 1.4, labels: bool = False,
) -> None:  # fmt: skip
    """`column` against updates, one curve per row, with its band where `curves` have `column`_low and _high."""
    names = []
    for row in rows:
        part = curves[(curves["row"] == row.name) & curves[column].notna()].sort_values("update")
        colour, band = COLOURS[row.method], [f"{column}{end}" for end in ("_low", "_high")]
        axes.plot(part["update"], part[column], color=colour, lw=width)
        if band[0] in part:
            low, high = (part[end] for end in band)
            axes.fill_between(part["update"], low, high, color=colour, alpha=BAND * min(1, FEW / len(rows)), lw=0)
        if len(part):
            names.append((part["update"].iloc[-1], part[column].iloc[-1], row.method, colour))
    if column != "proxy":
        axes.axhline(1, color=GREY, lw=0.5, zorder=0)
    axes.set_title(title, loc="left")
    if labels and names:
        label_ends(axes, names)
