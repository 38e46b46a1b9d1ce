"""The rules of a verdict, and how parts become one."""

from __future__ import annotations

import math

import pytest

from paper_tables.claims import CLAIMS
from paper_tables.claims.register import Claim
from paper_tables.claims.verdict import (
    Band,
    Effect,
    Part,
    beside,
    decisive,
    inside,
    larger,
    missing,
    overall,
    stated,
    untold,
)
from paper_tables.statistics.bootstrap import Interval

PAPER = Effect(0.1, "Table 1 prints")
EQUAL = Band(-0.01, 0.01, "a unit of the last digit")


def found(low: float, high: float, seeds: int = 3) -> Interval:
    over = "prompts and seeds" if seeds > 1 else "prompts"
    return Interval((low + high) / 2, low, high, over, 96, seeds)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.2, "confirmed"),
        (0.02, 0.06, "confirmed"),  # there, though smaller than the paper's
        (-0.05, 0.09, "not confirmed"),  # the paper's effect is ruled out
        (-0.3, -0.2, "not confirmed"),
        (-0.05, 0.11, "underpowered"),  # neither none nor the paper's effect is ruled out
        (math.nan, math.nan, "underpowered"),
    ],
)
def test_a_difference_is_judged_by_none_and_by_the_papers_effect(low: float, high: float, verdict: str) -> None:
    assert larger("x", found(low, high), PAPER, ()).verdict == verdict


def test_what_is_contradicted_and_what_is_only_smaller_than_the_papers_are_told_apart() -> None:
    below, smaller = (larger("x", found(*ends), PAPER, ()) for ends in ((-0.3, -0.2), (-0.05, 0.09)))
    assert below.verdict == smaller.verdict == "not confirmed"
    assert below.reason == "wanted above 0; Table 1 prints 0.1; all of the interval is below 0"
    assert (
        smaller.reason == "wanted above 0; Table 1 prints 0.1; up to 0.09 remains possible, smaller than in the paper"
    )


def test_a_size_that_the_paper_does_not_print_rules_nothing_out() -> None:
    chosen = Effect(0.1, "our choice is", printed=False)
    verdicts = [larger("x", found(*ends), chosen, ()).verdict for ends in ((-0.05, 0.09), (-0.3, -0.2), (0.01, 0.09))]
    assert verdicts == ["underpowered", "not confirmed", "confirmed"]


def test_none_of_a_quotient_is_one_and_not_zero() -> None:
    effect = Effect(8, "the paper has")
    assert larger("x", found(0.5, 3), effect, (), none=1).verdict == "not confirmed"
    assert larger("x", found(1.1, 3), effect, (), none=1).verdict == "confirmed"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.005, 0.009, "confirmed"),
        (0.02, 0.03, "not confirmed"),
        (0.0, 0.02, "underpowered"),
        (-0.02, 0.02, "underpowered"),
    ],
)
def test_equality_is_judged_by_its_band(low: float, high: float, verdict: str) -> None:
    assert inside("x", found(low, high), EQUAL, ()).verdict == verdict


def test_no_worse_has_no_upper_border() -> None:
    band = Band(-0.01, math.inf, "a unit of the last digit")
    assert inside("x", found(-0.005, 0.8), band, ()).verdict == "confirmed"
    assert inside("x", found(-0.8, -0.02), band, ()).verdict == "not confirmed"


@pytest.mark.parametrize(("seeds", "words"), [(1, "one seed: the interval is over prompts alone"), (2, "2 seeds")])
def test_fewer_than_three_seeds_confirm_and_refute_nothing_and_say_so(seeds: int, words: str) -> None:
    for low, high in ((0.02, 0.2), (-0.3, -0.2)):
        part = larger("x", found(low, high, seeds), PAPER, ())
        assert part.verdict == "underpowered" and part.reason.startswith(words)
        assert part.interval == found(low, high, seeds)
    assert inside("x", found(-0.005, 0.005, seeds), EQUAL, ()).verdict == "underpowered"
    like = larger("x", found(0.02, 0.2, seeds), PAPER, ())
    assert stated("y", 0.2, True, "wanted at most 0.5", like).verdict == "underpowered"


def test_updates_of_one_seed_are_enough_for_what_is_said_of_updates() -> None:
    part = larger("x", Interval(0.1, 0.02, 0.2, "updates", 0, 1), PAPER, ())
    assert part.verdict == "confirmed"


def parts(*verdicts: str) -> tuple[Part, ...]:
    return tuple(Part(str(index), verdict, float(index)) for index, verdict in enumerate(verdicts))


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (("confirmed", "confirmed"), "confirmed"),
        (("confirmed", "underpowered"), "underpowered"),
        (("confirmed", "underpowered", "not run"), "not run"),
        (("confirmed", "not run", "not confirmed"), "not confirmed"),
        (("confirmed", ""), "confirmed"),  # shown beside, decides nothing
    ],
)
def test_every_part_has_to_hold_and_one_refuted_part_refutes(verdicts: tuple[str, ...], verdict: str) -> None:
    assert overall(parts(*verdicts)) == verdict


def test_the_number_is_that_of_the_weakest_part_that_decided() -> None:
    strong, weak = (larger(name, found(low, 0.2), PAPER, ()) for name, low in (("strong", 0.1), ("weak", 0.02)))
    worst = larger("worst", found(-0.4, -0.3), PAPER, ())
    assert decisive((strong, weak)).name == "weak"
    assert decisive((strong, weak, worst)).name == "worst"
    assert decisive((strong, weak, beside(worst, "another figure"))).name == "weak"


def test_where_something_is_missing_the_measured_number_is_still_shown_and_the_missing_named() -> None:
    measured = larger("measured", found(0.02, 0.2), PAPER, ("run-1",))
    lost = missing("lost", "no finished run of sd3_guard_text: `make table1`")
    verdict = Claim("C0", "Table 0", lambda evidence: (measured, lost)).judge(None)  # type: ignore[arg-type]
    assert (verdict.verdict, verdict.value, verdict.runs) == ("not run", measured.value, ("run-1",))
    assert verdict.reason.startswith("no finished run of sd3_guard_text: `make table1`; measured: ")
    assert "2 parts: 1 confirmed, 1 not run" in verdict.reason


def test_a_part_that_is_shown_beside_is_never_the_number_of_a_claim() -> None:
    lost = missing("lost", "no finished run of sd3_guard_text: `make table1`")
    strong = larger("strong", found(0.1, 0.2), PAPER, ())
    single = beside(larger("single gold", found(-0.4, -0.3), PAPER, ()), "each gold score")
    assert decisive((lost, single, strong)) is strong
    assert decisive((lost, single)) is lost


def test_what_does_not_tell_leaves_the_number_to_what_does() -> None:
    measured = larger("measured", found(-0.05, 0.11), PAPER, ())
    assert decisive((untold("apart", "the proxies do not overlap", ()), measured)) is measured
    endless = larger("endless", found(math.nan, math.nan), PAPER, ())
    assert decisive((endless, measured)) is measured and endless.reason.endswith("no interval could be had")


def test_the_claims_are_the_papers_nineteen_each_with_a_statement_a_test_and_a_source() -> None:
    assert [claim.id for claim in CLAIMS] == [
        "C1", "C2", "C3", "C4a", "C4b", *(f"C{number}" for number in range(5, 20))
    ]  # fmt: skip
    for claim in CLAIMS:
        statement, test = claim.words
        assert statement.endswith(".") and test.endswith(".") and claim.source
