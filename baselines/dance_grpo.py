"""DanceGRPO (arXiv 2505.07818), XueZeyue/DanceGRPO at 15cc71d."""

from __future__ import annotations

import torch
from torch import Tensor

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

SHIFT = 3.0  # finetune_flux_grpo.sh:55, --shift


def dance_times(steps: int) -> Tensor:
    """(steps + 1,) float32 flow times 3u / (1 + 2u) of an even u from 1 to 0, whatever the latent's size.

    train_grpo_flux.py:127-128,311-313. The transformer reads them as they are; there, cut to whole thousandths.
    """
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (SHIFT * even / (1 + (SHIFT - 1) * even)).float()
