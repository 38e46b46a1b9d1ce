"""How the figures look, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# CVPR text is 6.875 in wide; at that width no letter is smaller than 7 pt.
WIDTH = 6.875
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "savefig.dpi": 200,
}

styled = matplotlib.rc_context(_RC)


def canvas(height: float) -> Figure:
    """An empty figure of the text's width, `height` in inches; for functions decorated with `styled`."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


@styled
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, without a time stamp, so that equal figures are equal files."""
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    # Laid out once for both: as long as there is an engine, each file is drawn twice.
    if engine := figure.get_layout_engine():
        figure.set_dpi(matplotlib.rcParams["savefig.dpi"])  # letters are a little wider or narrower by resolution
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(png)
    figure.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]], gap: float = 0.075) -> None:
    """Write each curve's name right of its end, pushed apart where they would overlap.

    Args:
        axes: with its final y limits.
        ends: (x, y, name, colour) of each curve's last point.
        gap: least distance of two names, as a share of the axes' height.
    """
    axes.get_xlim(), axes.get_ylim()  # settles the limits, which transData alone does not
    transform = axes.transData + axes.transAxes.inverted()
    placed = [(transform.transform((x, y)), name, colour) for x, y, name, colour in ends]
    placed.sort(key=lambda end: float(end[0][1]))
    right = max(float(point[0]) for point, _, _ in placed)
    heights = spread(np.array([point[1] for point, _, _ in placed]), gap)
    for height, (point, name, colour) in zip(heights, placed, strict=True):
        axes.annotate(
            name, xy=(point[0], point[1]), xytext=(right + 0.05, height), xycoords="axes fraction",
            color=colour, fontsize=7, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 1, "relpos":
            (0, 0.5)},
        )  # fmt: skip


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Sorted `heights` moved by the least sum of squares that leaves neighbours at least `gap` apart."""
    steps = np.arange(len(heights)) * gap
    left, count = heights - steps, len(heights)
    # Isotonic regression in closed form (Barlow et al. 1972): for few points; scipy.optimize takes a while to load.
    least = [[min(left[j : k + 1].mean() for k in range(i, count)) for j in range(i + 1)] for i in range(count)]
    return np.asarray(steps + [max(each) for each in least])
