"""Group-relative advantages: (reward - mean of its group) / std, normalised over the last axis.

Rewards are (P, G), or (P, trunks, S, K) for a branching plan. Arithmetic is in float64, because in float32 a
group of equal rewards misses its own mean by more than DanceGRPO's 1e-8 and would get an advantage.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Advantage = Callable[[Tensor], Tensor]

FLOW_EPSILON = 1e-4  # flow_grpo stat_tracking.py:11-55
DANCE_EPSILON = 1e-8  # DanceGRPO train_grpo_flux.py:533-548


def group_std(rewards: Tensor) -> Tensor:
    """Population std (ddof 0) of the group + 1e-4, same shape. flow_grpo stat_tracking.py:11-55.

    A group of one gets 0. `global_std=False` in flow_grpo's GRPO-Guard configurations; TempFlowGRPO too.
    """
    values = _finite(rewards)
    return _normalise(values, values.std(-1, correction=0, keepdim=True) + FLOW_EPSILON, rewards)


def global_std(rewards: Tensor) -> Tensor:
    """Group mean, but population std of all `rewards`, an epoch's, + 1e-4, same shape.

    `global_std=True` in flow_grpo's FlowGRPO configurations (config/grpo.py).
    """
    values = _finite(rewards)
    return _normalise(values, values.std(correction=0) + FLOW_EPSILON, rewards)


def sample_std(rewards: Tensor) -> Tensor:
    """Sample std (ddof 1) of the group + 1e-8, same shape. DanceGRPO train_grpo_flux.py:533-548.

    Raises:
        ValueError: groups of one, which have no sample std.
    """
    values = _finite(rewards)
    if values.shape[-1] < 2:
        raise ValueError(
            f"a sample std needs groups of two or more, found rewards of shape {tuple(rewards.shape)}; "
            "the group is the last axis"
        )
    return _normalise(values, values.std(-1, correction=1, keepdim=True) + DANCE_EPSILON, rewards)


ADVANTAGES: dict[str, Advantage] = {each.__name__: each for each in (group_std, global_std, sample_std)}


def _finite(rewards: Tensor) -> Tensor:
    if rewards.ndim == 0 or not bool(torch.isfinite(rewards).all()):
        raise ValueError(
            f"rewards must be finite numbers with the group as last axis, found {rewards}; "
            "find the scorer that returned a missing score"
        )
    return rewards.double()


def _normalise(values: Tensor, scale: Tensor, rewards: Tensor) -> Tensor:
    dtype = torch.promote_types(rewards.dtype, torch.float32)
    return ((values - values.mean(-1, keepdim=True)) / scale).to(dtype)
