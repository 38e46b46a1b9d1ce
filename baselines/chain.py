"""The plan of FlowGRPO and DanceGRPO: one stochastic trajectory and one image per member."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.plan import Cost, Noise, Plan, Rollout, Stepper, Velocity, stack
from baselines.sde import matching_times


@dataclass(frozen=True)
class Chain(Plan):
    """Every step is stochastic and the reward of its image goes to all trained steps of a member."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.branches != 1:
            raise ValueError(f"a chain has no branches, found branches={self.branches}; use Branch")

    @torch.no_grad()
    def rollout(self, recipe: Stepper, velocity: Velocity, times: Tensor, initial: Tensor, noise: Noise) -> Rollout:
        matching_times(times, initial)
        members = torch.arange(len(initial), device=initial.device)
        sample, visited, last = initial, [], len(times) - 2
        for index in range(last):
            step = recipe.step(sample, velocity(sample, index, members), times, index)
            visited.append((sample, step.sample(noise(index)), step.mean))
            sample = visited[-1][1]
        final = self.final(recipe, sample, velocity(sample, last, members), times, noise)
        return Rollout(*stack(visited), final.unsqueeze(1))

    def arrange(self, rewards: Tensor) -> Tensor:
        """(P, G, 1) -> (P, G)."""
        if rewards.ndim != 3 or rewards.shape[2] != 1:
            raise ValueError(f"a chain has rewards (P, G, 1), found {tuple(rewards.shape)}")
        return rewards.squeeze(2)

    def spread(self, advantages: Tensor, candidates: int) -> Tensor:
        """(P, G) -> (P, G, S), the same number at every step."""
        if advantages.ndim != 2:
            raise ValueError(f"a chain has advantages (P, G), found {tuple(advantages.shape)}")
        return advantages.unsqueeze(2).expand(-1, -1, candidates)

    def cost(self, steps: int) -> Cost:
        return Cost(forwards=float(steps), images=1)
