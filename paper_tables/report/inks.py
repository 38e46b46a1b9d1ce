"""What tells the methods' curves apart: a colour for light and for dark pages, a dash and a marker."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from paper_tables.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION


@dataclass(frozen=True)
class Ink:
    """How one method is drawn.

    Attributes:
        light: colour on a white page, with a contrast of at least 3 (WCAG 2.2, 1.4.11).
        dark: colour on a dark page, likewise.
        dash: lengths of strokes and gaps in pixels; empty for a solid line.
        shape: Vega's name of the marker.
    """

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str


# Okabe and Ito's hues as in the printed figures, darkened on white where they are too pale for thin lines.
_DARK_ORANGE, _DARK_PURPLE, _DARK_SKY, _PALE_BLUE, _PALE_VERMILLION = (
    "#a86e00",
    "#b0568b",
    "#2a86b8",
    "#5aa9e6",
    "#f08243",
)
INKS = {
    "FlowGRPO": Ink(VERMILLION, _PALE_VERMILLION, (6, 3), "square"),
    "DanceGRPO": Ink(_DARK_ORANGE, ORANGE, (6, 3), "diamond"),
    "TempFlowGRPO": Ink(_DARK_PURPLE, PURPLE, (2, 2), "triangle-up"),
    "GRPO-Guard": Ink(BLUE, _PALE_BLUE, (), "circle"),
    "Temp-Reweight": Ink(_DARK_PURPLE, PURPLE, (8, 2, 2, 2), "triangle-down"),
    "Guard-Reweight": Ink(_DARK_ORANGE, ORANGE, (8, 2, 2, 2), "cross"),
    "Mean-revised": Ink("#00805d", GREEN, (4, 2), "triangle-right"),
    "RatioNorm": Ink(_DARK_SKY, SKY, (10, 3), "triangle-left"),
}
# For methods that the paper does not have: grey, told apart by dash and marker, in turn.
_OTHERS = (
    Ink("#5f6368", "#b3b8bf", (1, 3), "stroke"),
    Ink("#5f6368", "#b3b8bf", (5, 2, 1, 2), "triangle-up"),
    Ink("#5f6368", "#b3b8bf", (12, 4), "diamond"),
    Ink("#5f6368", "#b3b8bf", (3, 1), "square"),
)


def inks(methods: list[str]) -> dict[str, dict[str, Any]]:
    """The ink of each method, as plain values, in the given order."""
    others = [method for method in methods if method not in INKS]
    spare = {method: _OTHERS[index % len(_OTHERS)] for index, method in enumerate(others)}
    return {method: asdict(INKS.get(method) or spare[method]) for method in methods}
