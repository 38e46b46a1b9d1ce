"""Did the proxy and the gold scores part, and for whom? Said from the intervals, never from the means alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from paper_tables.comparable import trained
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import base_row
from paper_tables.statistics.outcomes import difference, final

# (direction of the proxy, direction of the gold average) of a change from the base model; 0 where the interval
# includes no change.
PARTED, UNCLEAR, UNTOLD = "parted", "no clear change", "cannot be told"
VERDICTS = {
    (1, -1): PARTED,
    (1, 1): "both rose",
    (-1, -1): "both fell",
    (-1, 1): "proxy fell, gold rose",
    (0, 1): "only gold rose",
    (0, -1): "only gold fell",
    (1, 0): "only the proxy rose",
    (-1, 0): "only the proxy fell",
}


@dataclass(frozen=True)
class Finding:
    """What became of one row's proxy and gold average between the base model and the end of training.

    Attributes:
        proxy, gold: changes since the base model; None where one is lacking.
        scores: where one is lacking, what there is at the end: the name of the proxy or gold score, and its mean.
    """

    row: str
    method: str
    backbone: str
    task: str
    proxy: Interval | None
    gold: Interval | None
    scores: tuple[tuple[str, Interval], ...] = ()

    @property
    def verdict(self) -> str:
        """Of VERDICTS; UNCLEAR where both intervals include no change, UNTOLD where one is lacking."""
        if self.proxy is None or self.gold is None:
            return UNTOLD
        return VERDICTS.get((direction(self.proxy), direction(self.gold)), UNCLEAR)


def direction(change: Interval | None) -> int:
    """1 above 0, -1 below 0, 0 where the interval includes 0 or is not there."""
    if change is None or not change.excludes(0):
        return 0
    return 1 if change.value > 0 else -1


def signed(change: Interval | None, decimals: int = 2) -> str:
    """ "+0.08 [+0.02, +0.14]", with a real minus sign; "not measured" where there is none."""
    if change is None:
        return "not measured"
    ends = (_number(end, decimals + (round(end, decimals) == 0 != end)) for end in (change.low, change.high))
    return f"{_number(change.value, decimals)} [{', '.join(ends)}]"


def _number(value: float, decimals: int) -> str:
    """With its sign, and none where it rounds to zero."""
    shown = f"{value:+.{decimals}f}"
    return shown[1:] if float(shown) == 0 else shown.replace("-", "−")


def findings(study: Study) -> list[Finding]:
    """One per trained row, in the order of the runs."""
    infos = {run.info["row"]: run.info for run in study.runs if trained(run)}
    return [_finding(study, info) for info in infos.values()]


def _finding(study: Study, info: dict[str, str]) -> Finding:
    row, base = info["row"], base_row(study, info["row"])
    keys = (f"proxy/{info['task']}", "gold/average")
    proxy, gold = (difference(study, row, base, key) if base else None for key in keys)
    scores = () if proxy and gold else _scores(study, row, info["task"])
    return Finding(row, info["method"], info["backbone"], info["task"], proxy, gold, scores)


def _scores(study: Study, row: str, task: str) -> tuple[tuple[str, Interval], ...]:
    keys = (f"proxy/{task}", *(f"gold/{gold}" for gold in study.golds))
    found = ((key.partition("/")[2], final(study, row, key)) for key in keys)
    return tuple((name, each) for name, each in found if each)


def lead(found: list[Finding], backbones: dict[str, str]) -> str:
    """The answer in two sentences: for whom they parted, and what became of the others."""
    if not found:
        return "No trained row is finished yet."
    parted = [each for each in found if each.verdict == PARTED]
    others = Counter(each.verdict for each in found if each.verdict != PARTED)
    rest = ", ".join(f"{verdict} in {count}" for verdict, count in others.most_common())
    rows = f"{len(found)} trained row{'s' if len(found) > 1 else ''}"
    if not parted:
        return f"In none of {rows} did they part beyond doubt: {rest}."
    names = ", ".join(f"{each.method} on {backbones[each.backbone]} {each.task}" for each in parted)
    return f"They parted in {len(parted)} of {rows}: {names}." + (f" In the others: {rest}." if rest else "")
