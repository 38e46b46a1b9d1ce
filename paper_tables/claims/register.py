"""A claim: what the paper says, how it is tested, and the function that does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from paper_tables.claims.evidence import Evidence
from paper_tables.claims.verdict import NOT_RUN, OVER_UPDATES, REFUTED, SMALLER, Part, Verdict, decisive, overall

Test = Callable[[Evidence], tuple[Part, ...]]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper; the function's docstring is its statement and, from "Test:" on, what is tested.

    Attributes:
        id: C1 to C19.
        source: equation, figure or table of the paper.
        parts: the test itself.
    """

    id: str
    source: str
    parts: Test

    @property
    def words(self) -> tuple[str, str]:
        """The statement and the test."""
        statement, _, test = inspect.cleandoc(self.parts.__doc__ or "").partition("Test:")
        return " ".join(statement.split()), " ".join(test.split())

    def judge(self, evidence: Evidence) -> Verdict:
        """The verdict of all parts together; its number is that of the part on which it hangs."""
        parts = self.parts(evidence)
        verdict, hangs_on = overall(parts), decisive(parts)
        runs = tuple(dict.fromkeys(run for part in parts for run in part.runs))
        (statement, test), reason = self.words, _reason(evidence, verdict, parts)
        return Verdict(
            self.id, statement, self.source, verdict, hangs_on.value, hangs_on.interval, reason, runs, hangs_on.name,
            test, parts,
        )  # fmt: skip


def claim(id: str, source: str) -> Callable[[Test], Claim]:
    """Makes a claim of a test."""
    return lambda test: Claim(id, source, test)


def _reason(evidence: Evidence, verdict: str, parts: tuple[Part, ...]) -> str:
    """Which part decided, and how many there were; first what is missing."""
    judged, hangs_on = [part for part in parts if part.verdict], decisive(parts)
    sentences = _missing(evidence, judged) if verdict == NOT_RUN else []
    if hangs_on.verdict != NOT_RUN:
        sentences.append(f"{hangs_on.name}: {hangs_on.reason}{_other_world(evidence, hangs_on)}")
    if len(judged) > 1:
        of_each = {each.verdict: sum(part.verdict == each.verdict for part in judged) for each in judged}
        sentences.append(f"{len(judged)} parts: " + ", ".join(f"{n} {each}" for each, n in of_each.items()))
    return "; ".join(sentences)


def _other_world(evidence: Evidence, part: Part) -> str:
    """That an effect need not be as large in the tiny world, where that alone is why it is not confirmed."""
    sized = part.verdict == REFUTED and part.interval and part.interval.over != OVER_UPDATES and SMALLER in part.reason
    tiny = sized and evidence.study.scale == "tiny"
    return ", which is a size of the paper's models and not of the tiny scale's" if tiny else ""


def _missing(evidence: Evidence, judged: list[Part]) -> list[str]:
    """The rows that lack a run, all in one sentence, and what else is not there."""
    rows = list(dict.fromkeys(row for part in judged for row in part.lacks))
    others = dict.fromkeys(part.reason for part in judged if part.verdict == NOT_RUN and not part.lacks)
    return [evidence.unfinished(rows), *others] if rows else list(others)
