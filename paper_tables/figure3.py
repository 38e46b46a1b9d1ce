"""Figure 3: how unevenly the gradient falls on the denoising steps."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from bench.experiments import Pair
from paper_tables.gradient import imbalance
from paper_tables.palette import COLOURS
from paper_tables.style import canvas, styled


@styled
def figure3(frame: pd.DataFrame, pair: Pair) -> Figure:
    """Gradient norm per step, each curve over its smallest value: its highest point is the max/min ratio.

    No public source says how the paper normalises; the smallest value is our choice. Thin: what the schedule
    alone predicts.

    Args:
        frame: as `gradient.per_step` gives it.
        pair: the two methods.
    """
    figure = canvas(2.7)
    axes = figure.add_subplot()
    for method in (pair.base.method, pair.guard.method):
        _curve(axes, frame[(frame["method"] == method) & (frame["half"] == "all")], method)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([1, 2, 5, 10, 20, 50])
    axes.set_ylim(bottom=0.9)
    axes.set_ylabel("gradient norm / its smallest")
    axes.set_xlabel("step (0 = noisiest)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(f"Gradient norm per step, {pair.base.backbone} {pair.base.task}", loc="left")
    return figure


def _curve(axes: Axes, steps: pd.DataFrame, method: str) -> None:
    colour = COLOURS[method]
    name = f"{method}: max/min {imbalance(steps):.3g}x"
    axes.plot(steps["step"], steps["relative"], color=colour, marker="o", ms=3, label=name)
    name = f"schedule alone: {imbalance(steps, 'schedule'):.3g}x"
    axes.plot(steps["step"], steps["schedule"], color=colour, lw=0.7, ls=(0, (1, 1.5)), label=name)
