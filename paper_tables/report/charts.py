"""The page's charts as Vega-Lite, and each of them as PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paper_tables.report.inks import inks

PRINT_WIDTH, HEIGHT = 320, 150  # pixels; the page stretches a chart to its column
# What the page's own style uses, so that a chart reads as part of the text.
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
AXIS = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "tickSize": 4, "domain": False}
THEMES = {
    "light": {"text": "#4a4f57", "grid": "#e6e7ea", "rule": "#767b84"},
    "dark": {"text": "#b9bec7", "grid": "#2d3138", "rule": "#8d939d"},
}
# A point's words, shown when it is pointed at; the page fills them in.
WORDS = ("method", "seed", "update", "budget", "proxy", "gold average", "hacking")


def curve(height: int = HEIGHT) -> alt.LayerChart:
    """y against x, a line per curve with its interval as a band, its markers, and one marked point.

    Wants the data set `points` with x, y, low, high, curve, order, ink, dash, shape and WORDS, the data set `marked`
    with x, y and ink, and the data set `rules` with y.
    """
    points, marked, rules = (alt.Data(name=name) for name in ("points", "marked", "rules"))
    x = alt.X("x:Q", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=5, grid=False, title="x"))
    y = alt.Y("y:Q", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=5, minExtent=36, title=None))
    ink, order = alt.Color("ink:N", scale=None), alt.Order("order:Q")
    dash, shape = alt.StrokeDash("dash:N", scale=None), alt.Shape("shape:N", scale=None)
    tooltip = [alt.Tooltip(f"{word}:N") for word in WORDS]
    base = alt.Chart(points)
    drawn = (
        alt.Chart(rules).mark_rule(strokeWidth=1, strokeDash=[2, 3]).encode(y="y:Q"),
        base.mark_area(opacity=0.14).encode(
            x=x, y=alt.Y("low:Q"), y2="high:Q", color=ink, detail="curve:N"
        ),
        base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=ink, strokeDash=dash, detail="curve:N", order=order),
        base.mark_point(filled=True, opacity=1, size=34).encode(x=x, y=y, color=ink, shape=shape),
        base.mark_point(filled=True, opacity=0, size=360).encode(x=x, y=y, tooltip=tooltip),
        alt.Chart(marked).mark_point(size=230, strokeWidth=2.5).encode(x=x, y=y, color=ink),
    )
    return alt.layer(*drawn).properties(width=PRINT_WIDTH, height=height)
