"""An epoch's samples: every member of every group, its transitions, its images and its rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from baselines.plan import Rollout
from baselines.recipe import Recipe
from bench import noise
from bench.members import Member, micro_batches
from bench.noise import Coordinates
from bench.policy import Conditioning, Policy


@dataclass
class Samples:
    """B members of an epoch; S trainable transitions each; F images each.

    Attributes:
        members: in the order prompt by prompt, member by member.
        conditioning: embeddings of the epoch's prompts, a row each.
        rollout: state, next and old mean (B, S, *L), final latents (B, F, *L), all float32.
        images: uint8 (B, F, H, W, 3).
        mask: bool (B, S), the transitions that are trained.
        rewards: (B, F), NaN until scored.
        advantages: (B, S), zero until known.
    """

    members: list[Member]
    conditioning: Conditioning
    rollout: Rollout
    images: np.ndarray
    mask: Tensor
    rewards: Tensor
    advantages: Tensor


def draw(members: Sequence[Member], seed: int, epoch: int, stream: str, step: int, shape: Sequence[int]) -> Tensor:
    """Noise of each member at its own coordinates, (B, *shape)."""
    at = [Coordinates(seed, stream, epoch, m.prompt.id, m.index, step) for m in members]  # type: ignore[arg-type]
    return torch.stack([noise.normal(coordinates, shape) for coordinates in at])


def sample(
    policy: Policy,
    recipe: Recipe,
    members: list[Member],
    conditioning: Conditioning,
    times: Tensor,
    seed: int,
    epoch: int,
    micro_batch: int,
    sampled: Callable[[list[Member], np.ndarray], None] | None = None,
) -> Samples:
    """Rolls the policy out without gradient, micro-batch by micro-batch, and decodes the images.

    Args:
        members: whole trunks, in the order of `members_of`.
        conditioning: embeddings, a row for each of the epoch's prompts.
        times: (T + 1,) flow times.
        micro_batch: members per forward pass; changes neither noise nor, beyond rounding, latents.
        sampled: told of each micro-batch's images as soon as they are there.
    """
    parts, images = [], []
    for batch in micro_batches(members, micro_batch, recipe.plan.branches):
        parts.append(_roll_out(policy, recipe, batch, conditioning, times, seed, epoch))
        final = parts[-1].final
        images.append(
            policy.decode(final.flatten(0, 1)).reshape(*final.shape[:2], policy.resolution, policy.resolution, 3)
        )
        if sampled:
            sampled(batch, images[-1])
    fields = ("state", "next", "mean", "final")
    rollout = Rollout(*(torch.cat([getattr(part, field) for part in parts]) for field in fields))
    count, steps = rollout.state.shape[:2]
    draws = [noise.uniform(Coordinates(seed, "subset", epoch, m.prompt.id, m.index), steps) for m in members]
    return Samples(
        members=members,
        conditioning=conditioning,
        rollout=rollout,
        images=np.concatenate(images),
        mask=recipe.plan.mask(torch.stack(draws)),
        rewards=torch.full(rollout.final.shape[:2], torch.nan, dtype=torch.float64),
        advantages=torch.zeros(count, steps),
    )


def _roll_out(
    policy: Policy,
    recipe: Recipe,
    members: list[Member],
    conditioning: Conditioning,
    times: Tensor,
    seed: int,
    epoch: int,
) -> Rollout:
    shape, device = policy.latent_shape, policy.device
    rows = torch.tensor([m.row for m in members], device=device)
    starts = [replace(m, index=recipe.plan.initial_member(m.index)) for m in members]

    def velocity(latents: Tensor, index: int, batch_rows: Tensor) -> Tensor:
        return policy.velocity(latents, times[index].expand(len(latents)), conditioning.rows(rows[batch_rows]))

    def eps(index: int) -> Tensor:
        return draw(members, seed, epoch, "sde", index, shape).to(device)

    initial = draw(starts, seed, epoch, "initial", 0, shape).to(device)
    return recipe.plan.rollout(recipe, velocity, times, initial, eps)


def set_advantages(samples: Samples, rewards: Tensor, recipe: Recipe, groups: int) -> None:
    """Fills `samples.advantages` from the `rewards` (P * G, F) of all members of the `groups` prompts on all ranks."""
    arranged = recipe.plan.arrange(rewards.unflatten(0, (groups, -1)))
    spread = recipe.plan.spread(recipe.advantage(arranged), samples.mask.shape[1]).flatten(0, 1)
    samples.advantages = spread[[member.position for member in samples.members]].float()
