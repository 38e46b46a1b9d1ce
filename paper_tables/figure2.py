"""Figure 2: how far the policy ratio leaves 1, by denoising step and sign of the advantage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.experiments import HISTOGRAM_UNIT, histogram_edges
from paper_tables.frame import Pair
from paper_tables.log_ratio import SIGNS, shown_steps
from paper_tables.style import COLOURS, GREY, canvas, styled

# A curve's bins are joined to at least this share of its standard deviation: fine enough for its shape,
# coarse enough that a bin holds more than its counting noise (our choice).
JOINED_WIDTH = 1 / 3
FOOTER = (
    "curves scaled to equal peaks; dashed: clip range; "
    "log-ratio axes linear up to the smallest spread shown, logarithmic beyond"
)
RIDGE_HEIGHT = 1.5  # in units of the distance of two ridges; above 1 they overlap


@styled
def figure2(histograms: pd.DataFrame, moments: pd.DataFrame, pair: Pair) -> Figure:
    """Log-ratio distributions of the off-policy half, the on-policy half, and mean and spread per step.

    Args:
        histograms: as `log_ratio.histograms` gives them.
        moments: as `log_ratio.moments` gives them.
        pair: the two methods.
    """
    figure = canvas(4.7)
    grid = figure.add_gridspec(2, 4, width_ratios=[1.25, 1.25, 0.7, 1.45])
    for row, method in enumerate((pair.base.method, pair.guard.method)):
        _ridges(figure, grid, row, method, histograms, moments)
    off = moments[moments["inner"] == 1]
    _mean(figure.add_subplot(grid[0, 3]), off, pair)
    _spread(figure.add_subplot(grid[1, 3]), off, pair)
    figure.supxlabel(FOOTER, fontsize=6.5, color=GREY)
    return figure


def joined(counts: pd.DataFrame, width: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbouring bins joined from 0 outwards, each to about `width`, or left alone where they are wider.

    Args:
        counts: columns bin and count.
        width: in units of the log ratio.

    Returns:
        edges (bins + 1,) and density per unit of log ratio, scaled to a peak of 1, (bins,).
    """
    edges = np.array(histogram_edges())
    left, right = edges[:-1], edges[1:]
    weight = np.bincount(counts["bin"].to_numpy(), counts["count"].to_numpy(), minlength=len(left))
    group = np.sign(left + right) * (np.minimum(abs(left), abs(right)) // width + 1)
    starts = np.flatnonzero(np.diff(group, prepend=np.nan))
    coarse = np.append(left[starts], edges[-1])
    density = np.add.reduceat(weight, starts) / np.diff(coarse)
    return coarse, density / max(density.max(), np.finfo(float).tiny)


def _ridges(
    figure: Figure, grid: GridSpec, row: int, method: str, histograms: pd.DataFrame, moments: pd.DataFrame
) -> None:
    """The three panels of one method: off-policy by sign of the advantage, and on-policy."""
    counts = histograms[histograms["method"] == method]
    halves = [moments[(moments["method"] == method) & (moments["inner"] == i)].set_index("step") for i in (0, 1)]
    panels = [(1, [sign]) for sign in SIGNS] + [(0, list(SIGNS))]
    clip = float(halves[1]["clip"].iloc[0])
    titles = (f"{method}, clip {clip:g}\nadvantage < 0", "\nadvantage > 0", "\non-policy half")
    for column, ((inner, signs), title) in enumerate(zip(panels, titles, strict=True)):
        axes = figure.add_subplot(grid[row, column])
        part = counts[(counts["inner"] == inner) & counts["sign"].isin(signs)]
        _panel(axes, part, halves[1], halves[inner]["sd"], COLOURS[method])
        axes.set_title(title, loc="left")
        if column == 0:
            steps = shown_steps(halves[1].index)
            axes.set_yticks(range(len(steps)), [f"step {step}" for step in steps])
        if row == 1:
            axes.set_xlabel("log ratio" if column == 2 else "log ratio (mean over D)")


def _panel(axes: Axes, counts: pd.DataFrame, off: pd.DataFrame, own_sd: pd.Series, colour: str) -> None:
    """One ridge per step; the axis is the off-policy half's, linear up to its smallest spread."""
    steps = shown_steps(off.index)
    sd = off.loc[steps, "sd"].clip(lower=HISTOGRAM_UNIT)
    clip = float(off["clip"].iloc[0])
    for height, step in enumerate(steps):
        width = JOINED_WIDTH * max(own_sd.get(step, 0.0), JOINED_WIDTH * float(sd.min()))
        edges, density = joined(counts[counts["step"] == step], width)
        shade = _lighter(colour, 0.55 * height / max(len(steps) - 1, 1))
        top, order = height + RIDGE_HEIGHT * density, 2 - height / 10
        axes.stairs(top, edges, baseline=height, color=shade, zorder=order, fill=True, alpha=0.6)
        axes.stairs(top, edges, baseline=height, color=shade, zorder=order, lw=0.8)
    for sign in (-1, 1):
        axes.axvline(np.log1p(sign * clip), color="black", lw=0.8, ls=(0, (4, 2)), zorder=3)
    limit = max(1.6 * clip, float((off.loc[steps, "mean"].abs() + 4 * sd).max()))
    axes.set_xscale("asinh", linear_width=float(sd.min()))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-0.15, len(steps) - 1 + 1.1 * RIDGE_HEIGHT)
    _ticks(axes, limit)


def _ticks(axes: Axes, limit: float) -> None:
    """Three marks, so that narrow panels stay readable: 0 and plus and minus the last power of ten."""
    power = int(np.floor(np.log10(limit)))
    far = 10.0**power
    axes.set_xticks([-far, 0, far], [f"$-10^{{{power}}}$", "0", f"$10^{{{power}}}$"])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.axvline(0, color=GREY, lw=0.5, zorder=0)


def _lighter(colour: str, share: float) -> tuple[float, float, float]:
    red, green, blue = (1 - (1 - part) * (1 - share) for part in to_rgb(colour))
    return red, green, blue


def _mean(axes: Axes, off: pd.DataFrame, pair: Pair) -> None:
    axes.axhline(0, color=GREY, lw=0.5)
    for method in (pair.base.method, pair.guard.method):
        part = off[off["method"] == method]
        axes.errorbar(part["step"], part["mean"], part["se"], color=COLOURS[method], marker="o", ms=2.5, capsize=1.5)
    axes.set_title("mean, off-policy half\n(bars: standard error)", loc="left")
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _spread(axes: Axes, off: pd.DataFrame, pair: Pair) -> None:
    for method in (pair.base.method, pair.guard.method):
        part = off[off["method"] == method]
        ratio = part["sd"].max() / part["sd"].min()
        name = f"{method} (max/min {ratio:.3g}x)"
        axes.plot(part["step"], part["sd"], color=COLOURS[method], marker="o", ms=2.5, label=name)
        axes.axhline(float(part["clip"].iloc[0]), color=COLOURS[method], lw=0.8, ls=(0, (4, 2)))
    axes.set_yscale("log")
    axes.set_title("standard deviation,\noff-policy half", loc="left")
    axes.set_xlabel("step (0 = noisiest)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom, top = axes.get_ylim()
    axes.set_ylim(top=top * (top / bottom) ** 0.3)  # room for the legend
    axes.legend(frameon=False, fontsize=6.5, loc="upper left", handlelength=1)
