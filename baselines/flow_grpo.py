"""FlowGRPO (arXiv 2505.05470), yifan123/flow_grpo at 879042c."""

from __future__ import annotations

from baselines.advantage import group_std
from baselines.chain import Chain
from baselines.plan import last_sample, own_noise
from baselines.recipe import Recipe
from baselines.sde import flow_sde
from baselines.terms import log_r, uniform

FLOW_GRPO = Recipe(
    name="flow_grpo",
    sde=flow_sde,  # sd3_sde_with_logprob.py:42-68
    noise_level=0.7,  # config/base.py:61; its Flux configurations use 0.9
    plan=Chain(initial=own_noise, final=last_sample),
    advantage=group_std,  # stat_tracking.py:11-55
    log_ratio=log_r,
    step_weight=uniform,
    clip=1e-4,  # config/base.py:99
)
