"""DanceGRPO (arXiv 2505.07818), XueZeyue/DanceGRPO at 15cc71d."""

from __future__ import annotations

from baselines.advantage import sample_std
from baselines.chain import Chain
from baselines.plan import group_noise, last_x0
from baselines.recipe import Recipe
from baselines.sde import dance_sde
from baselines.terms import log_r, uniform

TRAINED_FRACTION = 0.6  # finetune_flux_grpo.sh: 9 of 15 steps, a random set for each sample

DANCE_GRPO = Recipe(
    name="dance_grpo",
    sde=dance_sde,  # train_grpo_flux.py:131-170
    noise_level=0.3,  # finetune_flux_grpo.sh, eta
    plan=Chain(initial=group_noise, final=last_x0, trained_fraction=TRAINED_FRACTION),
    advantage=sample_std,  # train_grpo_flux.py:533-548
    log_ratio=log_r,
    step_weight=uniform,
    clip=1e-4,  # finetune_flux_grpo.sh
)
