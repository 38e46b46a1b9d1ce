"""The colours of methods."""

from __future__ import annotations

# Okabe and Ito, "Color Universal Design" (2008): distinguishable in all common forms of colour blindness.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#767676"

COLOURS = {
    "FlowGRPO": VERMILLION,
    "DanceGRPO": ORANGE,
    "TempFlowGRPO": PURPLE,
    "GRPO-Guard": BLUE,
    "Temp-Reweight": PURPLE,
    "Guard-Reweight": ORANGE,
    "Mean-revised": GREEN,
    "RatioNorm": SKY,
}
