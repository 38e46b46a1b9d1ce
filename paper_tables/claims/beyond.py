"""Claims about rows and settings beyond Tables 1 and 2: FlowGRPO's own KL, rates and scales, the released bias."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bench.experiments import PAIRS
from bench.ledger.runs import flatten
from paper_tables.claims.clipping import norms
from paper_tables.claims.evidence import Evidence, over_updates
from paper_tables.claims.matched import at_equal_distance
from paper_tables.claims.register import claim
from paper_tables.claims.scores import (
    FLOW_TEXT,
    GUARD_TEXT,
    LAST_DIGIT,
    NO_NUMBER,
    gain,
    no_loss,
    no_lower,
    of_score,
    printed_gain,
)
from paper_tables.claims.verdict import SEEDS_NEEDED, Band, Part, beside, inside, larger, missing
from paper_tables.statistics.estimate import AVERAGE
from paper_tables.statistics.outcomes import difference

# What the released configurations of GRPO-Guard and FlowGRPO differ in, beside their recipes and the KL of C14.
VARIED = ("optim.rate", "method.advantage")
BASE = "sd3_base"


@claim("C14", "section 4")
def no_heavy_kl_is_needed(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard without a KL penalty does not fall behind FlowGRPO with its own KL penalty.

    Test: at an equal number of updates, Average and proxy no lower than by a unit of the last digit printed. The paper
    has no such row; FlowGRPO's KL is 0.04, for PickScore 0.01.
    """
    parts = []
    for task, digit in LAST_DIGIT.items():
        rows = (f"sd3_guard_{task}", f"sd3_flow_kl_{task}")
        parts.append(no_loss(evidence, *rows, AVERAGE, no_lower(NO_NUMBER.size)))
        parts.append(no_loss(evidence, *rows, "proxy", no_lower(digit)))
    return tuple(parts)


@claim("C18", "section 4; the released configurations")
def not_an_effect_of_other_settings(evidence: Evidence) -> tuple[Part, ...]:
    """GRPO-Guard's gain is not one of the learning rate or of the advantage's scale.

    Test: C8 on text, in this study and in those of other settings that are named beside it. Runs that differ in a
    setting never share a folder, so each setting is a study of its own. Beside, what is left of each gain at equal
    distance from the base model, and GRPO-Guard here less the base method there.
    """
    if evidence.others:
        own, *others = [Evidence(study) for study in (evidence.study, *evidence.others)]
        parts = [part for each in (own, *others) for part in _text_gain(each)]
        return (*parts, *(_other_base(own, other) for other in others))
    rows = ", ".join(f"`{row}`" for row in (BASE, FLOW_TEXT, GUARD_TEXT))
    return (missing(
        "other settings", f"each setting is a study of its own: train {rows} with `python -m bench.train row=ROW "
        f"seed=K optim.rate=RATE runs=runs/RATE suite=RATE` on {SEEDS_NEEDED} seeds or more, also with "
        "method.advantage=global_std, and name the folders: `python -m paper_tables claims --other runs/RATE`",
    ),)  # fmt: skip


def _text_gain(evidence: Evidence) -> tuple[Part, ...]:
    """C8 on text in one study, its settings in the parts' names; last, beside, at equal distance."""
    pair = next(pair for pair in PAIRS if pair.guard.name == GUARD_TEXT)
    whole = gain(evidence, GUARD_TEXT, FLOW_TEXT, AVERAGE, printed_gain(pair))
    parts = (whole, *at_equal_distance(evidence, (GUARD_TEXT, FLOW_TEXT)))
    return tuple(replace(part, name=f"{part.name} at {_settings(evidence)}") for part in parts)


def _other_base(own: Evidence, other: Evidence) -> Part:
    """GRPO-Guard in one study less the base method in the other: would other settings have done the same for it?"""
    name = f"{GUARD_TEXT} at {_settings(own)} - {FLOW_TEXT} at {_settings(other)}, {AVERAGE}"
    runs = (*own.runs(BASE, GUARD_TEXT), *other.runs(FLOW_TEXT))
    judged = {(run.info["seed"], run.info["hashes"]["evaluation"]) for run in runs}
    if len(judged) > len({seed for seed, _ in judged}):
        return Part(
            name, "", reason="not counted: not to be had, they were judged on other prompts or from other noise"
        )
    both = Evidence(replace(own.study, runs=runs))
    found = difference(both.study, GUARD_TEXT, FLOW_TEXT, AVERAGE)
    if found is None:
        why = both.nothing(name, GUARD_TEXT, FLOW_TEXT, what=AVERAGE).reason
        return Part(name, "", reason=f"not counted: not to be had, {why}")
    part = of_score(both, name, found, AVERAGE, (GUARD_TEXT, FLOW_TEXT), partial(larger, effect=NO_NUMBER))
    return beside(part, "whether the other settings alone would have done as much for the base method")


def _settings(evidence: Evidence) -> str:
    """What a study's runs on text have for VARIED; an advantage that is not set is the recipe's own."""
    run = next(iter(evidence.runs(GUARD_TEXT, FLOW_TEXT)), None)
    found = flatten(run.info.get("config", {})) if run else {}
    own = {"method.advantage": run.info.get("recipe", {}).get("advantage") if run else None}
    return ", ".join(f"{key}={found.get(key) or own.get(key)}" for key in VARIED)


@claim("C19", "flow_grpo, issue 244")
def released_bias_gives_the_same(evidence: Evidence) -> tuple[Part, ...]:
    """The released script's bias, a mean over the batch, gives the same result as the bias of each sample.

    Test: text on SD3.5-M: Average and proxy at the end equal to a unit of the last digit, and the mean gradient norm
    over all steps equal to within a quarter (our choice).
    """
    rows = ("sd3_guard_released_text", GUARD_TEXT)
    digit = Band(-NO_NUMBER.size, NO_NUMBER.size, "a unit of the last digit that Table 1 prints")
    scores = tuple(no_loss(evidence, *rows, key, digit) for key in (AVERAGE, "proxy"))
    name = f"{rows[0]} / {rows[1]}, gradient norm"
    if not evidence.diagnosed(*rows):
        return (*scores, evidence.nothing(name, *rows, what="diagnostics"))
    released, corrected = (norms(evidence, row).sum(-1) for row in rows)
    band = Band(1 / 1.25, 1.25, "a quarter each way is our choice")
    found = over_updates(released / corrected, *(evidence.updates(row, inner=None) for row in rows))
    return (*scores, inside(name, found, band, evidence.ids(*rows)))
