"""Inputs that the baselines tests share: values of the official functions, random Gaussian transitions.

`data/official_values.json` holds what flow_grpo 879042c and DanceGRPO 15cc71d compute on closed-form inputs
of shape (3, 2, 2, 2); its key `inputs` states them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines import Recipe, Step

OFFICIAL: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "official_values.json").read_text())
ADVANTAGES = torch.tensor([1.5, -0.7, 0.2])  # of the three samples, in every official loss


def official_tensor(name: str) -> Tensor:
    """x, v_old, v_new or eps of the official values, (3, 2, 2, 2) float32."""
    i = torch.arange(24, dtype=torch.float32)
    v_old = torch.cos(0.53 * i)
    values = {
        "x": torch.sin(0.37 * i),
        "v_old": v_old,
        "v_new": v_old + 0.01 * torch.sin(1.7 * i),
        "eps": 1.3 * torch.sin(2.1 * i),
    }
    return values[name].reshape(3, 2, 2, 2)


def sd3_times() -> Tensor:
    """The eleven float32 sigmas of FlowMatchEulerDiscreteScheduler(shift=3) at 10 steps.

    The shift acts twice at the small end: u falls in equal steps from 1 to f(1/1000), f(u) = 3u / (1 + 2u).
    """
    smallest = 3e-3 / (1 + 2e-3)
    u = torch.linspace(1, smallest, 10, dtype=torch.float64)
    return torch.cat([3 * u / (1 + 2 * u), torch.zeros(1, dtype=torch.float64)]).float()


def dance_times() -> Tensor:
    """The seventeen float32 sigmas of DanceGRPO at 16 steps: 3t / (1 + 2t), t = linspace(1, 0, 17)."""
    t = torch.linspace(1, 0, 17, dtype=torch.float64)
    return (3 * t / (1 + 2 * t)).float()


@dataclass(frozen=True, eq=False)
class Transition:
    """A recorded transition and a changed policy at it, float64; `velocity` is the leaf of the gradient."""

    velocity: Tensor
    new: Step
    old: Step
    next_sample: Tensor
    noise: Tensor

    @property
    def drift(self) -> Tensor:
        """Delta mu = mu_old - mu, (B, D)."""
        return (self.old.mean - self.new.mean).detach()


def transition(
    recipe: Recipe, times: Tensor, index: int | Tensor, rows: int = 3, width: int = 64, change: float = 0.1
) -> Transition:
    """`rows` transitions of `width` elements at which the policy moved its velocity by `change` (rms)."""
    draw = torch.Generator().manual_seed(7)
    sample, before, moved, noise = torch.randn(4, rows, width, generator=draw, dtype=torch.float64)
    velocity = (before + change * moved).requires_grad_()
    old = recipe.step(sample, before, times, index)
    new = recipe.step(sample, velocity, times, index)
    return Transition(velocity, new, old, old.sample(noise), noise)
