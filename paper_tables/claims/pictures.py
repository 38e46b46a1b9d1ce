"""Claims about how pictures look: variety on PickScore, stripes on DanceGRPO (Figures 5 to 9)."""

from __future__ import annotations

import math

from paper_tables.claims.evidence import Evidence
from paper_tables.claims.register import claim
from paper_tables.claims.scores import gain, no_loss
from paper_tables.claims.verdict import Band, Effect, Part
from paper_tables.statistics import final

# Our choice, as the paper shows pictures and prints no number: a tenth of the base model's own value.
NOTABLE = 0.1


@claim("C15", "Figure 7 (arXiv), human likeness")
def diversity_is_kept(evidence: Evidence) -> tuple[Part, ...]:
    """After training on PickScore, GRPO-Guard's pictures stay as varied as the base model's, more so than FlowGRPO's.

    Test: at the end, diversity of a prompt's pictures: less than the base model's by no more than a tenth of that, and
    above FlowGRPO's, as is, on the tiny scale, the gold score variety; share with a near-duplicate: above FlowGRPO's by
    no more than a tenth of all pictures.
    """
    guard, flow, base = "sd3_guard_pickscore", "sd3_flow_pickscore", "sd3_base"
    key = "picture/diversity"
    notable = _notable(evidence, base, key)
    kept = Band(-notable.size, math.inf, "a tenth of the base model's own value, our choice")
    few = Band(-math.inf, NOTABLE, "a tenth of all pictures, our choice")
    parts = [
        no_loss(evidence, guard, base, key, kept),
        gain(evidence, guard, flow, key, notable),
        no_loss(evidence, guard, flow, "picture/duplicates", few),
    ]
    if "variety" in evidence.study.golds:
        parts.append(gain(evidence, guard, flow, "gold/variety", _notable(evidence, base, "gold/variety")))
    return tuple(parts)


@claim("C16", "Figure 6 (arXiv)")
def stripes_are_absent(evidence: Evidence) -> tuple[Part, ...]:
    """DanceGRPO's pictures have stripes, and those of GRPO-Guard on DanceGRPO have none.

    Test: strongest frequency over its neighbourhood at the end, per task: DanceGRPO above the base model, GRPO-Guard
    above it by no more than a tenth of the base model's value.
    """
    key, base = "picture/stripes", "flux_base"
    effect = _notable(evidence, base, key)
    band = Band(-math.inf, effect.size, "a tenth of the base model's own value, our choice")
    return tuple(
        part
        for task in ("geneval", "text")
        for part in (
            gain(evidence, f"flux_dance_{task}", base, key, effect),
            no_loss(evidence, f"flux_guard_{task}", base, key, band),
        )
    )


def _notable(evidence: Evidence, base: str, key: str) -> Effect:
    found = final(evidence.study, base, key)
    size = NOTABLE * found.value if found else NOTABLE
    return Effect(size, "a tenth of the base model's value, our choice, is", printed=False)
