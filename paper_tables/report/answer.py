"""Did the proxy and the gold scores part, and for whom? Said from the intervals, never from the means alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.outcomes import difference
from paper_tables.table1 import BACKBONES

# (direction of the proxy, direction of the gold average) of a change from the base model; 0 where the interval
# includes no change.
PARTED, UNCLEAR = "parted", "unclear"
VERDICTS = {
    (1, -1): PARTED,
    (1, 1): "rose together",
    (-1, -1): "fell together",
    (-1, 1): "gold rose alone",
    (0, 1): "gold rose alone",
    (0, -1): "gold fell alone",
    (1, 0): "proxy rose alone",
    (-1, 0): "proxy fell alone",
}


@dataclass(frozen=True)
class Finding:
    """What became of one row's proxy and gold average between the base model and the end of training."""

    row: str
    method: str
    backbone: str
    task: str
    proxy: Interval | None
    gold: Interval | None

    @property
    def verdict(self) -> str:
        """Of VERDICTS, or `unclear` where both intervals include no change or one is lacking."""
        return VERDICTS.get((direction(self.proxy), direction(self.gold)), UNCLEAR)


def direction(change: Interval | None) -> int:
    """1 above 0, -1 below 0, 0 where the interval includes 0 or is not there."""
    if change is None or not change.excludes(0):
        return 0
    return 1 if change.value > 0 else -1


def signed(change: Interval | None, decimals: int = 2) -> str:
    """"+0.08 [+0.02, +0.14]", with a real minus sign; "not measured" where there is none."""
    if change is None:
        return "not measured"
    value, low, high = (f"{number:+.{decimals}f}" for number in (change.value, change.low, change.high))
    return f"{value} [{low}, {high}]".replace("-", "−")


def findings(study: Study) -> list[Finding]:
    """One per trained row, in the order of the runs."""
    infos = {run.info["row"]: run.info for run in study.runs if run.info["task"]}
    return [_finding(study, info) for info in infos.values()]


def _finding(study: Study, info: dict[str, str]) -> Finding:
    row, base = info["row"], f"{info['backbone']}_base"
    proxy, gold = (difference(study, row, base, key) for key in ("proxy", "gold/average"))
    return Finding(row, info["method"], info["backbone"], info["task"], proxy, gold)
