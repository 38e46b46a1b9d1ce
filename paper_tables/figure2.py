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

from bench.experiments import HISTOGRAM_UNIT, Pair, histogram_edges
from paper_tables.log_ratio import SIGNS, shown_steps
from paper_tables.palette import COLOURS, GREY
from paper_tables.style import canvas, styled

# A curve's bins are joined to at least this share of its standard deviation: fine enough for its shape,
# coarse enough that a bin holds more than its counting noise (our choice).
JOINED_WIDTH = 1 / 3
FOOTER = (
    "curves scaled to equal peaks; dashed: clip range; bars: standard error; "
    "log-ratio axes linear up to the smallest spread shown, logarithmic beyond"
)
RIDGE_HEIGHT = 1.5  # in units of the distance of two ridges; above 1 they overlap


@styled
def figure2(histograms: pd.DataFrame, moments: pd.DataFrame, pair: Pair) -> Figure:
    """Log-ratio distributions of the off-policy half, the half before any update, and mean and spread per step.

    Args:
        histograms: as `log_ratio.histograms` gives them.
        moments: as `log_ratio.moments` gives them.
        pair: the two methods.
    """
    figure = canvas(5.2)
    grid = figure.add_gridspec(2, 4, width_ratios=[1.15, 1.15, 0.6, 1.65])
    for row, method in enumerate((pair.base.method, pair.guard.method)):
        _ridges(figure, grid, row, method, histograms, moments)
    column = grid[:, 3].subgridspec(3, 1)
    _mean(figure.add_subplot(column[0]), moments, pair)
    _mean_of_sum(figure.add_subplot(column[1]), moments, pair)
    _spread(figure.add_subplot(column[2]), moments, pair)
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
    """The three panels of one method: off-policy by sign of the advantage, and the control before any update."""
    counts = histograms[histograms["method"] == method]
    halves = [moments[(moments["method"] == method) & (moments["inner"] == i)].set_index("step") for i in (0, 1)]
    panels = [(1, [sign]) for sign in SIGNS] + [(0, list(SIGNS))]
    clip = float(halves[1]["clip"].iloc[0])
    titles = (f"{method}, clip {clip:g}\nadvantage < 0", "\nadvantage > 0", "\nno update yet")
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


def _mean(axes: Axes, moments: pd.DataFrame, pair: Pair) -> None:
    """Mean of the mean-reduced ratio, less 1; rings are the control, the ratios of a rollout before any update."""
    axes.axhline(0, color=GREY, lw=0.5)
    for method in (pair.base.method, pair.guard.method):
        control, off = (_of(moments, method, inner) for inner in (0, 1))
        deficit = off["ratio_mean"] - 1
        axes.errorbar(off["step"], deficit, off["se"], color=COLOURS[method], marker="o", ms=2.5, capsize=1.5)
        axes.plot(control["step"], control["ratio_mean"] - 1, "o", ms=5, mfc="none", mec=COLOURS[method], mew=0.6)
    axes.set_title("mean ratio - 1, mean over D\n(rings: no update yet)", loc="left")
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mean_of_sum(axes: Axes, moments: pd.DataFrame, pair: Pair) -> None:
    """Mean of the ratio with a sum over D, which is 1 for any two policies."""
    axes.axhline(1, color=GREY, lw=0.8)
    for method in (pair.base.method, pair.guard.method):
        off = _of(moments, method, 1)
        axes.errorbar(
            off["step"], off["sum_mean"], off["sum_se"], color=COLOURS[method], marker="o", ms=2.5, capsize=1.5
        )
    axes.set_title("mean ratio, sum over D\n(line: 1, its expectation)", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not np.isfinite(moments.loc[moments["inner"] == 1, "sum_mean"]).any():
        axes.text(0.5, 0.6, "not recorded", transform=axes.transAxes, ha="center", fontsize=7, color=GREY)
        axes.set_xlim(moments["step"].min() - 0.5, moments["step"].max() + 0.5)


def _spread(axes: Axes, moments: pd.DataFrame, pair: Pair) -> None:
    for method in (pair.base.method, pair.guard.method):
        part = _of(moments, method, 1)
        ratio = part["sd"].max() / part["sd"].min()
        name = f"{method} (max/min {ratio:.3g}x)"
        axes.plot(part["step"], part["sd"], color=COLOURS[method], marker="o", ms=2.5, label=name)
        axes.axhline(float(part["clip"].iloc[0]), color=COLOURS[method], lw=0.8, ls=(0, (4, 2)))
    axes.set_yscale("log")
    control = moments.loc[moments["inner"] == 0, "sd"].max()
    axes.set_title(f"standard deviation\n(no update yet: {control:.0g})", loc="left")
    axes.set_xlabel("step (0 = noisiest)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom, top = axes.get_ylim()
    axes.set_ylim(top=top * (top / bottom) ** 0.45)  # room for the legend
    axes.legend(frameon=False, fontsize=6.5, loc="upper left", handlelength=1)


def _of(moments: pd.DataFrame, method: str, inner: int) -> pd.DataFrame:
    return moments[(moments["method"] == method) & (moments["inner"] == inner)]
