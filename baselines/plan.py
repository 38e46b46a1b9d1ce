"""Which steps are stochastic, which are trained, what noise is shared, where trajectories branch.

B members of a micro-batch, P prompts, G members of a group, T steps, L the shape of a latent. The S = T - 1
steps 0 ... T - 2 can be trained; the last step never is (flow_grpo train_sd3.py:345 trains int(0.99 T) steps,
DanceGRPO train_grpo_flux.py:511-519 drops the last). A plan says at which coordinates noise is needed and
never draws any, so methods that share a seed share their noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from baselines.sde import Step, x0_prediction

Velocity = Callable[[Tensor, int, Tensor], Tensor]
Noise = Callable[[int], Tensor]
InitialNoise = Callable[[int, int], int]


class Stepper(Protocol):
    """What a plan needs of a recipe."""

    def step(self, sample: Tensor, velocity: Tensor, times: Tensor, index: int | Tensor) -> Step: ...

    def old_step(self, mean: Tensor, times: Tensor, index: int | Tensor) -> Step: ...


Final = Callable[[Stepper, Tensor, Tensor, Tensor, Noise], Tensor]


@dataclass(frozen=True, eq=False)
class Rollout:
    """What a micro-batch leaves behind for training and for the judge.

    Attributes:
        state, next: (B, S, *L), the latent before and after each trainable transition.
        mean: (B, S, *L), the old policy's mean; `recipe.old_step` makes a Step of it again.
        final: (B, F, *L), the latents to decode; F = 1 on a chain, F = S where each step has its own branch.
    """

    state: Tensor
    next: Tensor
    mean: Tensor
    final: Tensor


@dataclass(frozen=True)
class Cost:
    """Transformer forwards and images per member of a group."""

    forwards: float
    images: int


def own_noise(member: int, branches: int) -> int:
    """Every member starts from noise of its own. flow_grpo, `same_latent=False`."""
    return member


def group_noise(member: int, branches: int) -> int:
    """One initial noise per group. DanceGRPO `--init_same_noise` (train_grpo_flux.py:333-350).

    DanceGRPO shares it per rank; per group is our choice, because it does not depend on the number of ranks.
    """
    return 0


def trunk_noise(member: int, branches: int) -> int:
    """One initial noise per trunk, member = trunk * branches + branch. TempFlow-GRPO train_sd3_pr.py."""
    return member // branches * branches


def last_sample(recipe: Stepper, sample: Tensor, velocity: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """The last transition with its noise. flow_grpo sd3_pipeline_with_logprob.py decodes x_T as sampled."""
    last = len(times) - 2
    return recipe.step(sample, velocity, times, last).sample(noise(last))


def last_x0(recipe: Stepper, sample: Tensor, velocity: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """x0-prediction of the last step, which is the ODE step to time 0. DanceGRPO train_grpo_flux.py:254."""
    return x0_prediction(sample, velocity, times, len(times) - 2)


@dataclass(frozen=True)
class Plan(ABC):
    """How a group's trajectories are sampled and which of their steps are trained.

    Attributes:
        initial: coordinate of the member whose initial noise a member uses.
        final: makes the latent to decode from the last state.
        trained_fraction: share of the S steps that each member trains, drawn anew for each member.
        branches: K, members per trunk; 1 on a chain.
    """

    initial: InitialNoise
    final: Final
    trained_fraction: float = 1.0
    branches: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.trained_fraction <= 1:
            raise ValueError(f"trained_fraction must lie in (0, 1], found {self.trained_fraction}")
        starts = {self.initial_member(member) for member in range(self.branches)}
        if self.branches < 1 or len(starts) > 1:
            raise ValueError(
                f"the {self.branches} members of a trunk must start from one initial noise, but "
                f"{self.initial.__name__} gives them the coordinates {sorted(starts)}; use trunk_noise"
            )

    def initial_member(self, member: int) -> int:
        """Coordinate of the member whose initial noise `member` uses."""
        return self.initial(member, self.branches)

    def mask(self, uniform: Tensor) -> Tensor:
        """Which of the S steps each member trains, bool (B, S): the smallest of its `uniform` numbers (B, S).

        int(S * fraction) steps as in DanceGRPO train_grpo_flux.py:551, there by a random permutation.

        Raises:
            ValueError: the fraction leaves no step to train.
        """
        count = int(uniform.shape[1] * self.trained_fraction)
        if count < 1:
            raise ValueError(f"{self.trained_fraction} of {uniform.shape[1]} steps trains none; sample with more steps")
        return uniform.argsort(dim=1, stable=True).argsort(dim=1) < count

    @abstractmethod
    def rollout(self, recipe: Stepper, velocity: Velocity, times: Tensor, initial: Tensor, noise: Noise) -> Rollout:
        """Samples a micro-batch of B members without gradient.

        Args:
            recipe: gives the transitions.
            velocity: the policy, (latents (n, *L), step, members (n,)) -> (n, *L), members in 0 ... B - 1.
            times: (T + 1,), falling to 0.
            initial: (B, *L), row b already the noise of coordinate `initial_member` of its member.
            noise: step -> (B, *L), the members' SDE noise of that step.
        """

    @abstractmethod
    def arrange(self, rewards: Tensor) -> Tensor:
        """Rewards (P, G, F) with the axis over which advantages are normalised last."""

    @abstractmethod
    def spread(self, advantages: Tensor, candidates: int) -> Tensor:
        """Advantages as arranged, brought back to (P, G, S), S = `candidates`."""

    @abstractmethod
    def cost(self, steps: int) -> Cost:
        """What a rollout of T = `steps` steps costs per member."""


def stack(visited: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """(state, next, mean) of each step, as three tensors (B, S, *L)."""
    state, following, mean = zip(*visited, strict=True)
    return torch.stack(state, 1), torch.stack(following, 1), torch.stack(mean, 1)
