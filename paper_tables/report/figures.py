"""The printed figures on the page: their files, and what they show in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from paper_tables.bands import over
from paper_tables.report.answer import Finding

TITLES = {
    "figure1": "Figure 1. Gold average against proxy",
    "figure2": "Figure 2. The policy ratio by denoising step",
    "figure3": "Figure 3. Gradient norm by denoising step",
    "figure7": "Figure 7. The ablation of Table 2",
}


def printed(folder: Path, found: list[Finding]) -> list[dict[str, Any]]:
    """What the page needs of each figure that was drawn into `folder`: stem, title, width, height, alt."""
    stems = [stem for stem in TITLES if (folder / f"{stem}.png").exists()]
    return [_figure(folder, stem, found) for stem in stems]


def _figure(folder: Path, stem: str, found: list[Finding]) -> dict[str, Any]:
    with Image.open(folder / f"{stem}.png") as image:
        width, height = image.size
    words = {"figure1": _figure1, "figure2": _figure2, "figure3": _figure3, "figure7": _figure7}
    alt = words[stem](folder, found)
    return {"stem": stem, "title": TITLES[stem], "width": width, "height": height, "alt": alt}


def _figure1(folder: Path, found: list[Finding]) -> str:
    said = "; ".join(f"{each.method}, {each.backbone} {each.task}: {each.verdict}" for each in found)
    below = over(pd.read_csv(folder / "figure1.csv"))
    told = f" Below, both against updates; {below}." if below else ""
    return f"Gold average against proxy over training, a panel per backbone and proxy, a curve a method.{told} {said}."


def _figure2(folder: Path, found: list[Finding]) -> str:
    frame = pd.read_csv(folder / "figure2_moments.csv")
    off = frame[frame["inner"] == 1]
    last = [part.nsmallest(1, "time").iloc[0] for _, part in off.groupby("method", sort=False)]
    said = "; ".join(f"{line['method']} {line['mean']:.2e} ({line['z']:+.1f} standard errors)" for line in last)
    return (
        "Distributions of the log ratio by denoising step and sign of the advantage, off-policy and on-policy, and its "
        f"mean and spread over the steps. Mean at the least noisy trained step: {said}."
    )


def _figure3(folder: Path, found: list[Finding]) -> str:
    frame = pd.read_csv(folder / "figure3.csv")
    whole = frame[frame["half"] == "all"].groupby("method", sort=False)["grad_norm"]
    said = "; ".join(f"{method} {part.max() / part.min():.3g}-fold" for method, part in whole)
    return f"Gradient norm of each denoising step over the smallest one. Largest over smallest: {said}."


def _figure7(folder: Path, found: list[Finding]) -> str:
    frame = pd.read_csv(folder / "figure7.csv").sort_values("update")
    last = frame.groupby("method", sort=False).tail(1).sort_values("gold/average", ascending=False)
    said = ", ".join(f"{line['method']} {line['gold/average']:.2f}" for _, line in last.iterrows())
    return (
        f"Proxy and gold scores over training by the methods of Table 2, {over(frame) or 'no intervals'}. Gold average "
        f"at the end: {said}."
    )
