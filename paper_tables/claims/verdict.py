"""What a verdict is, and the rules by which evidence becomes one. Everything that decides is in this file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from paper_tables.statistics.bootstrap import Interval

CONFIRMED, REFUTED, UNDERPOWERED, NOT_RUN = "confirmed", "not confirmed", "underpowered", "not run"
VERDICTS = (CONFIRMED, REFUTED, UNDERPOWERED, NOT_RUN)

# Our choice: with fewer, an interval over seeds has one degree of freedom or none.
SEEDS_NEEDED = 3
OVER_UPDATES: Literal["updates"] = "updates"

# How a reason says that an effect is not contradicted, though its size in the paper is.
SMALLER = "smaller than in the paper"

RULES = (
    "A claim that something is larger, by an effect that the paper prints: confirmed where the whole interval is above "
    "no effect; not confirmed where it is not and lies below the paper's effect, which the data then rule out; "
    "underpowered where it holds both. The reason says whether the effect is contradicted, the whole interval being "
    "below none, or only smaller than the paper's, whose size is that of its own models. Where the paper "
    "prints none, nothing is too small: not confirmed only where the whole interval is below no effect.",
    "A claim that something is equal, or no worse: confirmed where the whole interval lies inside the margin named "
    "with it; not confirmed where it lies outside; underpowered where it reaches over the margin's edge.",
    "A claim about several pairs or parts: not confirmed where one part is; else not run where one is missing; else "
    "underpowered where one is; confirmed where every one is. Its number is that of the part on which the verdict "
    "hangs. Parts are not corrected for their number: chance refutes one of five true ones in up to an eighth of "
    "studies.",
    f"A claim about scores needs {SEEDS_NEEDED} seeds: with fewer its interval and number are shown, and it is "
    "underpowered. A claim about the method itself is read from the off-policy optimizer updates, of gradients from "
    "all; its interval is over updates of these runs, not over seeds; they are drawn in blocks of ten at most, as "
    "neighbours are alike, and the interval is as much wider as the t distribution of so few blocks is.",
    "Intervals hold 95 %; those of steps that are searched for the worst one hold 95 % for all steps together.",
)


@dataclass(frozen=True)
class Effect:
    """How large the paper has it, and where: "Table 1, row 4, prints" 0.05.

    Attributes:
        printed: whether the size is the paper's; else it is our choice of what would be worth finding, and rules out
            nothing.
    """

    size: float
    source: str
    printed: bool = True


@dataclass(frozen=True)
class Band:
    """What still counts as equal, or as no worse where a border is infinite, and why."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Part:
    """One comparison behind a verdict: a pair, a row, a step.

    Attributes:
        name: what is compared, in words.
        verdict: of VERDICTS; empty where the part is shown beside the others and decides nothing.
        interval: of the number; None where it could not be had.
        value: the number, interval's own where there is one.
        reason: what the number was held against, or why there is none.
        runs: ids of the runs behind it.
        lacks: the rows without a finished run for which there is nothing.
        slack: how far the interval is from a border that matters, as a share of the effect or band; the part with
            the least is the one on which a verdict hangs.
    """

    name: str
    verdict: str
    value: float | None = None
    interval: Interval | None = None
    reason: str = ""
    runs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    slack: float = math.inf


@dataclass(frozen=True)
class Verdict:
    """What is said of one claim of the paper.

    Attributes:
        id: C1 to C19.
        statement: the claim in a sentence.
        source: equation, figure or table of the paper.
        verdict: of VERDICTS.
        value: the number on which the verdict hangs; None where nothing was measured.
        interval: of that number.
        reason: which part that is, what it was held against, or what is missing and how to make it.
        runs: ids of all runs behind the verdict.
        of: what the number is of, the part on which the verdict hangs.
        test: what was tested, in words.
        parts: every comparison.
    """

    id: str
    statement: str
    source: str
    verdict: str
    value: float | None
    interval: Interval | None
    reason: str
    runs: tuple[str, ...]
    of: str = ""
    test: str = ""
    parts: tuple[Part, ...] = ()


def larger(name: str, found: Interval, effect: Effect, runs: tuple[str, ...], *, none: float = 0.0) -> Part:
    """Whether a number is above `none`, where the paper has it at `effect.size`, above `none` too."""
    bar = max(none, effect.size) if effect.printed else none
    verdict = CONFIRMED if found.low > none else REFUTED if found.high < bar else UNDERPOWERED
    words = f"wanted above {none:g}; {effect.source} {effect.size:.3g}"
    if verdict == CONFIRMED and found.high < effect.size:
        words += ", more than is found here"
    if verdict == REFUTED and found.high < none:
        words += f"; all of the interval is below {none:g}"
    elif verdict == REFUTED:
        words += f"; up to {found.high:.3g} remains possible, {SMALLER}"
    slack = (found.low - none) / (abs(effect.size - none) or 1)
    return _of_enough_seeds(name, verdict, found, words, runs, slack)


def inside(name: str, found: Interval, band: Band, runs: tuple[str, ...]) -> Part:
    """Whether a number lies in a band."""
    within = found.low >= band.low and found.high <= band.high
    out = found.high < band.low or found.low > band.high
    verdict = CONFIRMED if within else REFUTED if out else UNDERPOWERED
    borders = [f"at least {band.low:.3g}"] * math.isfinite(band.low)
    borders += [f"at most {band.high:.3g}"] * math.isfinite(band.high)
    words = f"wanted {' and '.join(borders)} ({band.source})"
    size = max(abs(border) for border in (band.low, band.high) if math.isfinite(border))
    return _of_enough_seeds(name, verdict, found, words, runs, min(found.low - band.low, band.high - found.high) / size)


def stated(name: str, value: float, holds: bool, wanted: str, like: Part) -> Part:
    """A number without an interval; as certain as the part whose runs it is of, at best."""
    few = like.interval is not None and like.interval.seeds < SEEDS_NEEDED
    verdict = UNDERPOWERED if few else CONFIRMED if holds else REFUTED
    return Part(name, verdict, value, None, f"{wanted}: {'yes' if holds else 'no'}", like.runs)


def untold(name: str, reason: str, runs: tuple[str, ...]) -> Part:
    """A comparison whose runs are there and do not tell."""
    return Part(name, UNDERPOWERED, reason=reason, runs=runs)


def missing(name: str, reason: str, lacks: tuple[str, ...] = ()) -> Part:
    """A comparison for which there is nothing; the reason says what is lacking and how to make it."""
    return Part(name, NOT_RUN, reason=reason, lacks=lacks, slack=-math.inf)


def beside(part: Part, why: str) -> Part:
    """The same number, shown beside those that decide."""
    words = f"not counted ({why}); alone it would be {part.verdict}: {part.reason}"
    return replace(part, verdict="", reason=words, slack=math.inf)


def _of_enough_seeds(name: str, verdict: str, found: Interval, words: str, runs: tuple[str, ...], slack: float) -> Part:
    if found.over != OVER_UPDATES and found.seeds < SEEDS_NEEDED:
        few = "one seed: the interval is over prompts alone" if found.seeds == 1 else f"{found.seeds} seeds"
        words = f"{few}, wanted {SEEDS_NEEDED} (the interval alone: {verdict}); {words}"
        verdict = UNDERPOWERED
    if math.isnan(found.low):
        words += "; no interval could be had"
    words += f"; {found.note}" if found.note else ""
    return Part(name, verdict, found.value, found, words, runs, slack=math.inf if math.isnan(slack) else slack)


def overall(parts: Iterable[Part]) -> str:
    """The verdict of all parts together."""
    found = {part.verdict for part in parts}
    return next(each for each in (REFUTED, NOT_RUN, UNDERPOWERED, CONFIRMED) if each in found)


def decisive(parts: tuple[Part, ...]) -> Part:
    """The part on which the verdict of all hangs; where something is missing, the weakest that was measured."""
    verdict = overall(parts)
    measured = [part for part in parts if part.verdict and part.interval] if verdict == NOT_RUN else []
    return min(measured or [part for part in parts if part.verdict == verdict], key=lambda part: part.slack)
