"""What stands beside gold at equal updates and at equal proxy: gold at equal distance, and on a proxy's plateau."""

from __future__ import annotations

import numpy as np

from paper_tables.claims.evidence import Array, Evidence, bases
from paper_tables.claims.verdict import Part
from paper_tables.statistics.distance import difference_at_distance
from paper_tables.statistics.estimate import AVERAGE, PROXY, Ask, estimate, updates
from paper_tables.statistics.matching import gold_at, overlap
from paper_tables.statistics.training import observed

Rows = tuple[str, str]


def range_of_proxies(evidence: Evidence, rows: Rows) -> str:
    """The proxies that both reach, and at which of its updates each reaches the highest; means over seeds."""
    asks = _asks(evidence, rows)
    curves = observed(evidence.study, asks)
    if curves is None:
        return ""
    low, high = overlap(curves[0], curves[2])
    ends = []
    for row, ask, curve in zip(rows, asks[::2], curves[::2], strict=True):
        at = np.array(ask.updates)[(curve >= high[:, None]).argmax(-1)].mean()
        ends.append(f"by {row} at update {at:.0f} of {ask.updates[-1]}")
    return f"proxies from {low.mean():.3g} to {high.mean():.3g}, reached {' and '.join(ends)}"


def at_equal_distance(evidence: Evidence, rows: Rows) -> tuple[Part, ...]:
    """Gold of the first less gold of the second where both are at one KL to the base model, the furthest of both.

    In the reason the same of the proxy and of each gold: equally far is not equally well trained.
    """
    if evidence.absent(*rows, *bases(rows)):
        return ()
    study, name = evidence.study, f"{' - '.join(rows)}, {AVERAGE} at equal sqrt(KL) to the base model"
    found = difference_at_distance(study, *rows)
    if found.interval is None:
        return (Part(name, "", reason=found.reason, runs=evidence.ids(*rows)),)
    others = {key: difference_at_distance(study, *rows, key) for key in (PROXY, *(f"gold/{g}" for g in study.golds))}
    there = ", ".join(
        f"{key.removeprefix('gold/')} {at.interval.display()}" for key, at in others.items() if at.interval
    )
    words = f"not counted: at sqrt(KL) {found.reach:.3g}, the furthest that both went; {there} there"
    runs = evidence.behind(found.interval, AVERAGE, *rows)
    return (Part(name, "", found.interval.value, found.interval, words, runs),)


def at_the_ends(evidence: Evidence, rows: Rows) -> tuple[Part, ...]:
    """Gold of each row at its end, where the other came to that proxy; the first's less the second's.

    At equal proxy nothing is seen of what gold does while the proxy stays where it is.
    """
    asks, parts = _asks(evidence, rows), []
    for first in (True, False):
        words = ("at its end", "at that proxy") if first else ("at that proxy", "at its end")
        name = " - ".join(f"{row} {where}" for row, where in zip(rows, words, strict=True)) + f", {AVERAGE}"
        found = estimate(evidence.study, asks, lambda *curves, first=first: _at_the_end(first, *curves))
        if found is None or np.isnan(found.value):
            reached = f"{rows[first]} does not reach the last proxy of {rows[not first]} under every seed"
            parts.append(Part(name, "", reason=reached, runs=evidence.ids(*rows)))
        else:
            runs = evidence.behind(found, AVERAGE, *rows)
            parts.append(Part(name, "", found.value, found, "not counted: a plateau of the proxy included", runs))
    return tuple(parts)


def _asks(evidence: Evidence, rows: Rows) -> list[Ask]:
    """Proxy and gold of both rows, where a row has both."""
    steps = {row: sorted(set(updates(evidence.study, row)) & set(updates(evidence.study, row, PROXY))) for row in rows}
    return [Ask(row, key, tuple(steps[row])) for row in rows for key in (PROXY, AVERAGE)]


def _at_the_end(first: bool, proxy: Array, gold: Array, other_proxy: Array, other_gold: Array) -> Array:
    """(R, S) of (R, S, U); NaN where the other's proxy is nowhere as high."""
    if not first:
        return -_at_the_end(True, other_proxy, other_gold, proxy, gold)
    end = proxy[..., -1:]
    gap = gold[..., -1] - gold_at(end, other_proxy, other_gold)[..., 0]
    return np.where(end[..., 0] <= other_proxy.max(-1), gap, np.nan)
