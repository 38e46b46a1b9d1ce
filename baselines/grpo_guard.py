"""GRPO-Guard (arXiv 2510.22319): a change to any recipe, and the six rows of the paper's Table 2."""

from __future__ import annotations

from dataclasses import replace

from baselines.dance_grpo import DANCE_GRPO
from baselines.flow_grpo import FLOW_GRPO
from baselines.recipe import Recipe
from baselines.terms import (
    StepWeight,
    beta_over_dt,
    inverse_dt,
    mean_revised,
    noise_aware,
    ratio_norm,
    ratio_norm_batch,
)

GUARD_CLIP = 2e-6  # flow_grpo config/grpo_guard.py for OCR and GenEval; 4e-6 for PickScore


def guard(base: Recipe, clip: float = GUARD_CLIP, weight: StepWeight = inverse_dt) -> Recipe:
    """`base` with RatioNorm, `weight` on its steps and the narrower `clip` (eq. 12); all else stays.

    On DanceGRPO, 1/dt is the poster's and every code's weight; notes on the paper give `beta_over_dt`.
    """
    return replace(base, name=f"guard_{base.name}", log_ratio=ratio_norm, step_weight=weight, clip=clip)


GUARD_FLOW_GRPO = guard(FLOW_GRPO)
GUARD_DANCE_GRPO = guard(DANCE_GRPO)
GUARD_DANCE_GRPO_BETA = replace(guard(DANCE_GRPO, weight=beta_over_dt), name="guard_dance_grpo_beta")
GUARD_FLOW_GRPO_RELEASED = replace(
    GUARD_FLOW_GRPO,
    name="guard_flow_grpo_released",
    log_ratio=ratio_norm_batch,
    batch=9,  # flow_grpo config/grpo_guard.py:46,55: images of a GPU's batch, over which its script takes the mean
)

# Clip: FlowGRPO's for a raw ratio, GRPO-Guard's for a normalised one. Our choice, no source says.
ABLATION: dict[str, Recipe] = {
    row.name: row
    for row in (
        replace(FLOW_GRPO, name="baseline"),
        replace(FLOW_GRPO, name="temp_reweight", step_weight=noise_aware),
        replace(FLOW_GRPO, name="guard_reweight", step_weight=inverse_dt),
        replace(FLOW_GRPO, name="mean_revised", log_ratio=mean_revised),
        replace(FLOW_GRPO, name="ratio_norm", log_ratio=ratio_norm, clip=GUARD_CLIP),
        replace(FLOW_GRPO, name="grpo_guard", log_ratio=ratio_norm, step_weight=inverse_dt, clip=GUARD_CLIP),
    )
}
