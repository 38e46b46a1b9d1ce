"""The page's charts as Vega-Lite, and each of them as PNG, PDF and CSV."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
SNIPPET = "window.vegaEmbed = vegaEmbed;"  # what the page calls of its library
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# A point's words, shown when it is pointed at; the page fills them in.
WORDS = ("method", "seed", "update", "budget", "proxy", "gold average", "parted")
BAND = 0.14  # our choice: three bands on each other still let the grid through
Look = dict[str, Any]
Spec = dict[str, Any]


def curve(data: tuple[str, str], look: Look, titles: tuple[str, str | None], band: float = BAND) -> Spec:
    """y against x, a line per curve with its interval as a band, its markers, and rings around marked points.

    Args:
        data: names of two data sets: points with x, y, low, high, curve, order, marked (0 or 1), WORDS and what `look`
            names; and with y where the base model is, a horizontal line.
        look: the channels color, strokeDash and shape.
        titles: of the x and of the y axis.
        band: how opaque an interval is.
    """
    x = _field("x", scale={"zero": False}, axis={"grid": False, "tickCount": 5, "title": titles[0]})
    y = _field("y", scale={"zero": False}, axis={"minExtent": 36, "tickCount": 5, "title": titles[1]})
    points, base_model = data
    color, shape, each = {"color": look["color"]}, {"shape": look["shape"]}, {"detail": _word("curve")}
    line = {"order": _field("order"), "strokeDash": look["strokeDash"]}
    ends = {"y": _field("low"), "y2": {"field": "high"}}
    drawn = (
        (base_model, "rule", {"strokeDash": [2, 3], "strokeWidth": 1}, {"y": _field("y")}),
        (points, "area", {"opacity": band}, {**color, **each, "x": x, **ends}),
        (points, "line", {"strokeWidth": 1.8}, {**color, **each, **line, "x": x, "y": y}),
        (points, "point", {"filled": True, "opacity": 1, "size": 34}, {**color, **shape, "x": x, "y": y}),
        (points, "point", {"size": 230, "strokeWidth": 2.5},
         {**color, "opacity": _field("marked", scale=None), "x": x, "y": y}),
        (points, "point", {"filled": True, "opacity": 0, "size": 360},
         {"tooltip": [_word(word) for word in WORDS], "x": x, "y": y}),
    )  # fmt: skip
    return {"layer": [
        {"data": {"name": name}, "mark": {"type": kind, **mark}, "encoding": encoding}
        for name, kind, mark, encoding in drawn
    ]}  # fmt: skip


def _field(name: str, **more: Any) -> Spec:
    """A channel of numbers, keys in the alphabet's order."""
    return dict(sorted({"field": name, "type": "quantitative", **more}.items()))


def _word(name: str, **more: Any) -> Spec:
    return _field(name, **more) | {"type": "nominal"}


def template() -> Spec:
    """`curve` as the page takes it: data sets by name, and each point's own ink, dash and shape."""
    named = {"color": "ink", "strokeDash": "dash", "shape": "shape"}
    return curve(("points", "base_model"), {key: _word(name, scale=None) for key, name in named.items()}, ("x", None))


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
    sets = {name: lines for y in there for name, lines in _data(panel, y).items()}
    drawn = {"$schema": SCHEMA, "title": title, "config": CONFIG, "vconcat": parts, "datasets": sets}
    panel.to_csv(stem.with_suffix(".csv"), index=False, lineterminator="\n", float_format="%.8g")
    shape = vl_convert.vegalite_to_svg(drawn)  # once for both files
    stem.with_suffix(".png").write_bytes(vl_convert.svg_to_png(shape, scale=2))
    stem.with_suffix(".pdf").write_bytes(vl_convert.svg_to_pdf(shape))


def _legend(methods: list[str]) -> Look:
    """The channels by method, with one legend for the three."""
    found = inks(methods)
    named = {"color": "light", "strokeDash": "dash", "shape": "shape"}
    ranges = {channel: [found[method][name] or [1, 0] for method in methods] for channel, name in named.items()}
    legend = {"title": None, "symbolOpacity": 1}
    return {
        channel: _word("method", scale={"domain": methods, "range": values}, legend=legend)
        for channel, values in ranges.items()
    }


def _empty(y: str, title: str, look: Look, curves: int) -> Spec:
    """`curve` on paper, its data by name."""
    band = min(BAND, 2 * BAND / curves)  # many bands on each other hide the lines
    size = {"width": PRINT_WIDTH, "height": HEIGHT}
    return curve((y, f"{y} before"), look, (AXES["update"], title), band) | size


def _data(panel: pd.DataFrame, y: str) -> dict[str, list[dict[str, Any]]]:
    """The data sets of `_empty`."""
    columns = {"update": "x", y: "y", f"{y}_low": "low", f"{y}_high": "high", "row": "curve"}
    lines = panel[panel[y].notna()].rename(columns=columns)[[*columns.values(), "method"]]
    before = [{"y": float(lines.loc[lines["x"] == lines["x"].min(), "y"].mean())}]
    return {y: records(lines.assign(order=lines["x"], marked=0)), f"{y} before": before}


def write_library(path: Path) -> None:
    """The page's plotting library, which it would else fetch from a network."""
    path.write_text(f"(() => {{{_bundle()}}})();\n", encoding="utf-8")


def _bundle() -> str:
    """vl-convert's own bundle, kept by its version in the user's cache: making it takes as long as all charts."""
    named = hashlib.sha256(f"{version('vl-convert-python')} {SNIPPET}".encode()).hexdigest()
    kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "grpo-guard-bench" / f"{named}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    made = vl_convert.javascript_bundle(SNIPPET)
    with suppress(OSError):  # where nothing can be kept, it is made every time
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}.{os.getpid()}")
        partial.write_text(made, encoding="utf-8")
        partial.replace(kept)
    return made
