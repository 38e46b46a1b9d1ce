"""TempFlowGRPO (arXiv 2508.04324), Shredded-Pork/TempFlow-GRPO at e66824e."""

from __future__ import annotations

from dataclasses import replace

from baselines.branch import Branch
from baselines.flow_grpo import FLOW_GRPO
from baselines.plan import last_x0, trunk_noise
from baselines.terms import noise_aware

BRANCHES = 6  # train_sd3_pr.py and README: branch 4 x exploration 6

TEMP_FLOW_GRPO = replace(
    FLOW_GRPO,
    name="temp_flow_grpo",
    plan=Branch(initial=trunk_noise, final=last_x0, branches=BRANCHES),  # sd3_pipeline_with_logprob_perstep.py
    step_weight=noise_aware,  # train_sd3_pr.py:954
)
