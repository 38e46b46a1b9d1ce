"""Rows and measures as the tables and the page call them; the raw names stay in CSV and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable

from bench.experiments import BACKBONES, BASE, OWN, ROWS, Row, row_of
from paper_tables.frame import Study

MEASURES = {
    r"gold/average": "gold average",
    r"(gold|picture)/(\w+)": r"\1 \2",
    r"log_r": "a plain log ratio",
    r"ratio_norm": "RatioNorm",
}
NOT_COUNTED = "not counted"
ABOUT_NOT_COUNTED = f"Parts that are {NOT_COUNTED} stand beside the others for information; no verdict hangs on them."


def reader(study: Study) -> Callable[[str], str]:
    """Makes a part's name or reason readable, whatever rows it names; what is to be typed, in backticks, stays.

    "sd3_guard_text - sd3_flow_text, gold/average" becomes "GRPO-Guard less FlowGRPO on tiny SD3 text, gold average".
    """
    rows = ROWS | {run.info["row"]: row_of(run.info) for run in study.runs if run.info.get("setting") == OWN}
    backbones = BACKBONES[study.scale]
    row = rf"\b({'|'.join(map(re.escape, sorted(rows, key=len, reverse=True)))})\b"

    def pair(found: re.Match[str]) -> str:
        one, other = rows[found[1]], rows[found[2]]
        if one.backbone == other.backbone and other.setting == BASE != one.setting:
            return f"{_name(one, backbones)} less its base model"
        if (one.backbone, one.task) == (other.backbone, other.task):
            return f"{one.method} less {_name(other, backbones)}"
        return f"{_name(one, backbones)} less {_name(other, backbones)}"

    def plain(words: str) -> str:
        words = re.sub(f"{row} - {row}", pair, words)
        words = re.sub(f" - (?={row})", " less ", words)
        words = re.sub(f"{row}(?='s)", lambda found: _owner(rows[found[1]]), words)
        words = re.sub(row, lambda found: _name(rows[found[1]], backbones), words)
        for measure, shown in MEASURES.items():
            words = re.sub(rf"\b{measure}\b", shown, words)
        return words

    return lambda text: "".join(part if part[:1] == "`" else plain(part) for part in re.split("(`[^`]*`)", text))


def _name(row: Row, backbones: dict[str, str]) -> str:
    """ "GRPO-Guard on tiny SD3 text", "the base model tiny SD3"."""
    backbone = backbones[row.backbone]
    return f"the base model {backbone}" if row.setting == BASE else f"{row.method} on {backbone} {row.task}"


def _owner(row: Row) -> str:
    return "the base model" if row.setting == BASE else row.method
