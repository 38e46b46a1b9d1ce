"""The paper's testable claims, C1 to C19, and what the runs of a study say of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paper_tables.claims import beyond, clipping, course, method, pages, pictures, scores
from paper_tables.claims.evidence import Evidence
from paper_tables.claims.register import Claim
from paper_tables.claims.verdict import Part as Part
from paper_tables.claims.verdict import Verdict as Verdict
from paper_tables.frame import Study

CLAIMS: tuple[Claim, ...] = (
    method.log_ratio_is_biased,
    method.mean_ratio_is_below_one,
    method.normed_ratio_has_mean_one,
    method.spread_is_equal_over_steps,
    method.spread_is_reduced,
    clipping.clipping_acts_on_both_sides,
    clipping.gradient_falls_evenly_on_the_steps,
    scores.proxy_is_not_lost,
    scores.gold_is_higher_at_equal_updates,
    scores.gold_is_higher_at_equal_proxy,
    course.gold_peaks_early_and_falls,
    course.guard_falls_later,
    course.reweighting_alone_collapses_sooner,
    scores.mean_correction_gives_most,
    beyond.no_heavy_kl_is_needed,
    pictures.diversity_is_kept,
    pictures.stripes_are_absent,
    course.convergence_is_comparable,
    beyond.not_an_effect_of_other_settings,
    beyond.released_bias_gives_the_same,
)


def evaluate(study: Study, others: Sequence[Study] = ()) -> tuple[Verdict, ...]:
    """A verdict for every claim, in the order of their numbers; `others` are of other settings, for C18."""
    return _judged(Evidence(study, others))


def write(study: Study, out: Path, others: Sequence[Study] = ()) -> None:
    """Print every verdict; write the files of `pages.write` into `out` and print where they are."""
    evidence = Evidence(study, others)
    verdicts = _judged(evidence)
    print(pages.to_text(study, verdicts), "", "Claims:", sep="\n")
    for path in pages.write(study, verdicts, clipping.activity(evidence), out):
        print(f"  {path}")


def _judged(evidence: Evidence) -> tuple[Verdict, ...]:
    return tuple(claim.judge(evidence) for claim in CLAIMS)
