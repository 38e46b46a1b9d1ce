"""The page's charts as Vega-Lite, and each of them as PNG, PDF and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paper_tables.report.inks import inks
from paper_tables.report.points import AXES, records

PRINT_WIDTH, HEIGHT = 340, 150  # pixels; the page stretches a chart to its column
# What the page's own style uses, so that a chart reads as part of the text.
FONT = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"
AXIS = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "tickSize": 4, "domain": False}
CONFIG: dict[str, Any] = {"font": FONT, "aria": False, "view": {"stroke": None}, "axis": AXIS}
# Text and lines on a light and on a dark page; text has a contrast of at least 4.5.
THEMES = {
    "light": {"text": "#4a4f57", "grid": "#e6e7ea", "rule": "#767b84"},
    "dark": {"text": "#b9bec7", "grid": "#2d3138", "rule": "#8d939d"},
}
# A point's words, shown when it is pointed at; the page fills them in.
WORDS = ("method", "seed", "update", "budget", "proxy", "gold average", "parted")
BAND = 0.14  # our choice: three bands on each other still let the grid through
Look = dict[str, Any]
Data = tuple[alt.NamedData, alt.NamedData]


def curve(data: Data, look: Look, titles: tuple[str, str | None], band: float = BAND) -> alt.LayerChart:
    """y against x, a line per curve with its interval as a band, its markers, and rings around marked points.

    Args:
        data: points with x, y, low, high, curve, order, marked (0 or 1), WORDS and what `look` names; and with y where
            the base model is, a horizontal line.
        look: the channels color, strokeDash and shape.
        titles: of the x and of the y axis.
        band: how opaque an interval is.
    """
    x = alt.X("x:Q", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, grid=False, title=titles[0]))
    y = alt.Y("y:Q", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, minExtent=36, title=titles[1]))
    points, base_model = data
    base, each = alt.Chart(points), {"detail": "curve:N"}
    color, dash, shape = look["color"], look["strokeDash"], look["shape"]
    drawn = (
        alt.Chart(base_model).mark_rule(strokeWidth=1, strokeDash=[2, 3]).encode(y="y:Q"),
        base.mark_area(opacity=band).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=color, **each),
        base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=color, strokeDash=dash, order="order:Q", **each),
        base.mark_point(filled=True, opacity=1, size=34).encode(x=x, y=y, color=color, shape=shape),
        base.mark_point(size=230, strokeWidth=2.5).encode(
            x=x, y=y, color=color, opacity=alt.Opacity("marked:Q", scale=None)
        ),
        base.mark_point(filled=True, opacity=0, size=360).encode(x=x, y=y, tooltip=[f"{word}:N" for word in WORDS]),
    )
    return alt.LayerChart(layer=list(drawn))


def template() -> dict[str, Any]:
    """`curve` as the page takes it: data sets by name, and each point's own ink, dash and shape."""
    data = (alt.NamedData(name="points"), alt.NamedData(name="base_model"))
    raw = {"color": alt.Color("ink:N", scale=None), "strokeDash": alt.StrokeDash("dash:N", scale=None),
           "shape": alt.Shape("shape:N", scale=None)}  # fmt: skip
    made: dict[str, Any] = curve(data, raw, ("x", None)).to_dict(validate=False)
    return {key: made[key] for key in ("layer",)}


def write(panel: pd.DataFrame, title: str, stem: Path) -> None:
    """A panel's two charts against updates, one below the other, as PNG and PDF, and its points as CSV.

    Args:
        panel: the lines of `points.points` of one backbone and task, of all seeds together.
        stem: path without its ending.
    """
    look = _legend(list(dict.fromkeys(panel["method"])))
    titles = {"proxy": "proxy", "gold": "gold average, base model = 1"}
    there = {y: words for y, words in titles.items() if panel[y].notna().any()}
    parts = [_empty(y, words, look, panel["row"].nunique()) for y, words in there.items()]
    drawn = alt.vconcat(*parts, title=title, config=CONFIG).to_dict(validate=False)
    drawn["datasets"] = {name: lines for y in there for name, lines in _data(panel, y).items()}
    panel.to_csv(stem.with_suffix(".csv"), index=False, lineterminator="\n", float_format="%.8g")
    shape = vl_convert.vegalite_to_svg(drawn)  # once for both files
    stem.with_suffix(".png").write_bytes(vl_convert.svg_to_png(shape, scale=2))
    stem.with_suffix(".pdf").write_bytes(vl_convert.svg_to_pdf(shape))


def _legend(methods: list[str]) -> Look:
    """The channels by method, with one legend for the three."""
    found = inks(methods)

    def scale(name: str) -> dict[str, Any]:
        values = [found[method][name] or [1, 0] for method in methods]
        return {"scale": alt.Scale(domain=methods, range=values), "legend": alt.Legend(title=None, symbolOpacity=1)}

    named = {"color": (alt.Color, "light"), "strokeDash": (alt.StrokeDash, "dash"), "shape": (alt.Shape, "shape")}
    return {channel: make("method:N", **scale(name)) for channel, (make, name) in named.items()}


def _empty(y: str, title: str, look: Look, curves: int) -> alt.LayerChart:
    """`curve` on paper; its data come by name, since altair copies what is given to it many times."""
    data = (alt.NamedData(name=y), alt.NamedData(name=f"{y} before"))
    band = min(BAND, 2 * BAND / curves)  # many bands on each other hide the lines
    return curve(data, look, (AXES["update"], title), band).properties(width=PRINT_WIDTH, height=HEIGHT)


def _data(panel: pd.DataFrame, y: str) -> dict[str, list[dict[str, Any]]]:
    """The data sets of `_empty`."""
    columns = {"update": "x", y: "y", f"{y}_low": "low", f"{y}_high": "high", "row": "curve"}
    lines = panel[panel[y].notna()].rename(columns=columns)[[*columns.values(), "method"]]
    before = [{"y": float(lines.loc[lines["x"] == lines["x"].min(), "y"].mean())}]
    return {y: records(lines.assign(order=lines["x"], marked=0)), f"{y} before": before}


def write_library(path: Path) -> None:
    """The page's plotting library, which it would else fetch from a network."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    path.write_text(f"(() => {{{bundle}}})();\n", encoding="utf-8")
