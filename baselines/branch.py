"""The plan of TempFlowGRPO: trajectories that branch at every step of a deterministic trunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.plan import Cost, Noise, Plan, Rollout, Stepper, Velocity, stack
from baselines.sde import matching_times, ode_step


@dataclass(frozen=True)
class Branch(Plan):
    """A deterministic trunk; at every step K stochastic branches of one step, each finished by the ODE.

    Each branch is judged for itself; the members of a trunk are adjacent rows.
    TempFlow-GRPO sd3_pipeline_with_logprob_perstep.py.
    """

    @torch.no_grad()
    def rollout(self, recipe: Stepper, velocity: Velocity, times: Tensor, initial: Tensor, noise: Noise) -> Rollout:
        matching_times(times, initial)
        trunk, visited, finals = self._trunks(initial), [], []
        members = torch.arange(0, len(initial), self.branches, device=initial.device)
        for index in range(len(times) - 2):
            predicted = velocity(trunk, index, members)
            mean = self._fan_out(recipe.step(trunk, predicted, times, index).mean)
            branch = recipe.old_step(mean, times, index).sample(noise(index))
            visited.append((self._fan_out(trunk), branch, mean))
            finals.append(self._finish(recipe, velocity, times, branch, index + 1, noise))
            trunk = ode_step(trunk, predicted, times, index)
        return Rollout(*stack(visited), torch.stack(finals, 1))

    def _finish(
        self, recipe: Stepper, velocity: Velocity, times: Tensor, sample: Tensor, start: int, noise: Noise
    ) -> Tensor:
        members = torch.arange(len(sample), device=sample.device)
        last = len(times) - 2
        for index in range(start, last):
            sample = ode_step(sample, velocity(sample, index, members), times, index)
        return self.final(recipe, sample, velocity(sample, last, members), times, noise)

    def _trunks(self, initial: Tensor) -> Tensor:
        trunks = initial[:: self.branches]
        if len(initial) % self.branches or not torch.equal(initial, self._fan_out(trunks)):
            raise ValueError(
                f"a micro-batch must hold whole trunks of {self.branches} adjacent members with one initial "
                f"noise each, found {len(initial)} rows; choose a multiple and draw at initial_member"
            )
        return trunks

    def _fan_out(self, trunks: Tensor) -> Tensor:
        return trunks.repeat_interleave(self.branches, dim=0)

    def arrange(self, rewards: Tensor) -> Tensor:
        """(P, G, S) -> (P, trunks, S, K)."""
        if rewards.ndim != 3 or rewards.shape[1] % self.branches:
            raise ValueError(
                f"rewards must be (P, G, S) with G a multiple of {self.branches}, found {tuple(rewards.shape)}"
            )
        prompts, members, steps = rewards.shape
        trunks = rewards.reshape(prompts, members // self.branches, self.branches, steps)
        return trunks.transpose(2, 3)

    def spread(self, advantages: Tensor, candidates: int) -> Tensor:
        """(P, trunks, S, K) -> (P, G, S)."""
        if advantages.ndim != 4 or advantages.shape[2:] != (candidates, self.branches):
            raise ValueError(
                f"advantages must be (P, trunks, {candidates}, {self.branches}), found {tuple(advantages.shape)}"
            )
        return advantages.transpose(2, 3).flatten(1, 2)

    def cost(self, steps: int) -> Cost:
        """The trunk's T - 1 forwards are shared; the branch of step i needs T - 1 - i more."""
        return Cost(forwards=(steps - 1) / self.branches + steps * (steps - 1) / 2, images=steps - 1)
