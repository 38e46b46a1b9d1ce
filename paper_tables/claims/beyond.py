"""Claims about rows and settings beyond Tables 1 and 2: FlowGRPO's own KL, rates and scales, the released bias."""

from __future__ import annotations

from dataclasses import replace

from bench.experiments import PAIRS
from bench.ledger import Run
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
    printed_gain,
)
from paper_tables.claims.verdict import SEEDS_NEEDED, Band, Part, beside, inside, larger, missing
from paper_tables.comparable import StudyError, check_settings
from paper_tables.frame import Study
from paper_tables.statistics.estimate import AVERAGE, PROXY
from paper_tables.statistics.outcomes import difference

# What the released configurations of GRPO-Guard and FlowGRPO differ in, beside their recipes, each with a clip range of
# its own, and the KL of C14.
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

    Test: C8 on text, in this study and in those of other settings that are named beside it: above 0 in each, not
    equally large; clip ranges are not varied. Runs that differ in a setting never share a folder, so each setting is a
    study of its own. Beside, each gain at equal KL to the base model, what the other settings do for the base method,
    and both methods at the settings of either study.
    """
    own, *others = [Evidence(study) for study in (evidence.study, *evidence.others)]
    others = [other for other in others if _settings(other) != _settings(own)]
    if others:
        parts = [part for each in (own, *others) for part in _text_gain(each)]
        return (*parts, *(part for other in others for part in _across(own, other)))
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


def _across(own: Evidence, other: Evidence) -> tuple[Part, ...]:
    """The base method there less itself here, and GRPO-Guard of either study less the base method of the other."""
    here, there = _settings(own), _settings(other)
    mine, theirs = own.runs(BASE, FLOW_TEXT, GUARD_TEXT), other.runs(FLOW_TEXT, GUARD_TEXT)
    try:
        check_settings((*mine, *theirs), VARIED)
    except StudyError as error:
        return (Part(f"runs at {there} beside those at {here}", "", reason=f"not counted: {error}"),)
    named = [_renamed(run, at) for runs, at in ((mine, here), (theirs, there)) for run in runs]
    both = replace(own.study, runs=tuple(named))
    asked = ((FLOW_TEXT, there, FLOW_TEXT, here), (GUARD_TEXT, here, FLOW_TEXT, there),
             (GUARD_TEXT, there, FLOW_TEXT, here))  # fmt: skip
    return tuple(_less(both, f"{row} at {mine}", f"{base} at {its}") for row, mine, base, its in asked)


def _renamed(run: Run, settings: str) -> Run:
    """The run, its row called by its settings too; a base model has none."""
    row = run.info["row"]
    return replace(run, info=run.info | {"row": row if row == BASE else f"{row} at {settings}"})


def _less(study: Study, row: str, other: str) -> Part:
    """The difference of two rows at the end, not counted, with that of their proxies in the reason."""
    name, found = f"{row} - {other}, {AVERAGE}", difference(study, row, other, AVERAGE)
    if found is None:
        return Part(name, "", reason=f"not counted: no seed has {row}, {other} and {BASE}")
    runs = [run.info for run in study.runs if run.info["row"] in (row, other, BASE)]
    part = larger(name, found, NO_NUMBER, tuple(each["run_id"] for each in runs if each["seed"] in found.of_seeds))
    proxy = difference(study, row, other, PROXY)
    return beside(part, f"proxy {proxy.display()}" if proxy else "no proxy")


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
