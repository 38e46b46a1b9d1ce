"""Figure 1: does the gold score follow the proxy?"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.experiments import PAIRS, TABLE1, Pair, Row
from paper_tables.bands import over
from paper_tables.figure7 import draw
from paper_tables.palette import COLOURS, GREY
from paper_tables.style import canvas, styled

# Panels in the order of Table 1's pairs; the sixth place holds the legend.
PANELS = tuple((pair.guard.backbone, pair.guard.task) for pair in PAIRS)


@styled
def figure1(curves: pd.DataFrame, pair: Pair | None) -> Figure:
    """Gold average against proxy over training, per backbone and task; both against updates for one pair.

    Args:
        curves: as `frame.seed_mean` gives them, perhaps with the columns of `bands.bands`.
        pair: the methods of the lower panels; None leaves them empty.
    """
    figure = canvas(5.6)
    upper, lower = figure.subfigures(2, 1, height_ratios=[2, 1.1], squeeze=False).flat
    panels = upper.subplots(2, 3, squeeze=False)
    for axes, (backbone, task) in zip(panels.flat, PANELS, strict=False):
        _panel(axes, curves, backbone, task)
    for axes in panels[:, 0]:
        axes.set_ylabel("gold average / base")
    _legend(panels[-1, -1], curves)
    rows = (pair.base, pair.guard) if pair else ()
    where = f", {pair.base.backbone} {pair.base.task}" if pair else ""
    columns = (("proxy", "proxy"), ("gold/average", "gold average / base"))
    for axes, (column, title) in zip(lower.subplots(1, 2, squeeze=False).flat, columns, strict=True):
        draw(axes, curves, rows, column, title + where, labels=True)
        axes.set_xlabel("optimizer updates")
    if words := over(curves[curves["row"].isin([row.name for row in rows])]):
        lower.supxlabel(words, fontsize=6.5, color=GREY)
    return figure


def _panel(axes: Axes, curves: pd.DataFrame, backbone: str, task: str) -> None:
    """One curve per method, from a ring (base model) to a dot (end of training), which has its intervals."""
    for row in _rows(backbone, task):
        part = curves[(curves["row"] == row.name) & curves["gold/average"].notna()].sort_values("update")
        colour = COLOURS[row.method]
        axes.plot(part["proxy"], part["gold/average"], color=colour)
        axes.plot(part["proxy"][:1], part["gold/average"][:1], "o", ms=4, mfc="white", mec=colour)
        axes.plot(part["proxy"][-1:], part["gold/average"][-1:], "o", ms=4, color=colour)
        _interval(axes, part[-1:], colour)
    axes.axhline(1, color=GREY, lw=0.5, zorder=0)
    axes.set_title(f"{backbone} {task}", loc="left")
    axes.set_xlabel(f"proxy: {task}")
    absent = [row.method for row in _rows(backbone, task) if row.name not in set(curves["row"])]
    if absent:
        words = f"not run: {', '.join(absent)}"
        axes.text(0.03, 0.03, words, transform=axes.transAxes, fontsize=6.5, color=GREY)
    if len(absent) == len(_rows(backbone, task)):
        axes.set_xticks([])


def _interval(axes: Axes, end: pd.DataFrame, colour: str) -> None:
    """A thin cross over the intervals of the last point's proxy and gold, where they are known."""
    if not {"proxy_low", "gold/average_low"} <= set(end):
        return
    axes.hlines(end["gold/average"], end["proxy_low"], end["proxy_high"], color=colour, lw=0.6, alpha=0.7)
    axes.vlines(end["proxy"], end["gold/average_low"], end["gold/average_high"], color=colour, lw=0.6, alpha=0.7)


def _legend(axes: Axes, curves: pd.DataFrame) -> None:
    methods = [row.method for row in TABLE1.values() if row.recipe and row.name in set(curves["row"])]
    lines = [Line2D([], [], color=COLOURS[method], label=method) for method in dict.fromkeys(methods)]
    ring = Line2D([], [], ls="", marker="o", mfc="white", mec=GREY, label="start: the base model")
    dot = Line2D([], [], ls="", marker="o", color=GREY, label="end of training")
    cross = Line2D([], [], ls="", marker="+", ms=9, mew=0.6, color=GREY, label="95 % intervals of its changes")
    axes.axis("off")
    axes.legend(
        handles=[*lines, ring, dot, *([cross] if "proxy_low" in curves else [])], frameon=False, loc="upper left"
    )


def _rows(backbone: str, task: str) -> list[Row]:
    return [row for row in TABLE1.values() if (row.backbone, row.task) == (backbone, task)]
