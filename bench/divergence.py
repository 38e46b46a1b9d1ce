"""How far a policy is from the base model: the KL of their sampling processes, exact up to the mean over images.

A score against the root of this KL is how Gao, Schulman and Hilton draw over-optimisation (arXiv 2210.10760).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baselines import Recipe, terms
from bench import noise
from bench.noise import Coordinates
from bench.policy import Policy
from bench.prompts import Prompt

if TYPE_CHECKING:
    from bench.session import Session

PROMPTS = 48  # of the gold set; our choice: 864 forwards at ten steps, a tenth of the smallest evaluation


def measure(session: Session) -> dict[str, float]:
    """`kl/base` in nats per image with `_n` and `_std`, as metrics; nothing where no base model is beside the policy.

    Nothing for a base model itself, and for a fully trained transformer, whose base is not in memory.
    """
    recipe, config, policy = session.recipe, session.config, session.policy
    if recipe is None or config.backbones[session.row.backbone].train == "full":
        return {}
    listed = spread(session.evaluation_sets[0].prompts, PROMPTS)
    size = min(config.evaluation.micro_batch, policy.rows or config.evaluation.micro_batch)
    parts = [listed[start : start + size] for start in range(0, len(listed), size)]

    def work() -> Tensor:
        if session.state.update == 0:  # what is untrained is the base
            return torch.zeros(len(listed), dtype=torch.float64)
        return torch.cat([kl_to_base(policy, recipe, part, config.seed, session.times()) for part in parts])

    with session.state.ema.swapped_in():
        found = session.ranks.decide(work)
    spread_of = found.std().item() if len(found) > 1 else 0.0
    return {"kl/base": found.mean().item(), "kl/base_n": len(found), "kl/base_std": spread_of}


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """At most `count` of the prompts, evenly over the list."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


@torch.no_grad()
def kl_to_base(policy: Policy, recipe: Recipe, prompts: Sequence[Prompt], seed: int, times: Tensor) -> Tensor:
    """KL of each prompt's path under the policy to that under the base, nats, float64 (N,).

    The sum over the first T - 1 transitions, which recipes train, of ||mu - mu_base||^2 / (2 std^2) along a path that
    the policy itself draws from the recipe's SDE: of each transition the KL of two Gaussians of one spread is exact,
    and their sum is an unbiased estimate. It bounds the KL of the states that these transitions lead to from above.
    """
    at = [Coordinates(seed, "evaluation", prompt=prompt.id) for prompt in prompts]
    latents = torch.stack([noise.normal(each, policy.latent_shape) for each in at]).to(policy.device)
    conditioning = policy.encode([prompt.text for prompt in prompts])
    total = torch.zeros(len(prompts), dtype=torch.float64)
    for index in range(len(times) - 2):
        time = times[index].expand(len(latents))
        own = recipe.step(latents, policy.velocity(latents, time, conditioning), times, index)
        with policy.reference():
            base = recipe.step(latents, policy.velocity(latents, time, conditioning), times, index)
        total += terms.kl(own, base).double().cpu() * latents[0].numel()
        drawn = [noise.normal(each._replace(step=index + 1), policy.latent_shape) for each in at]
        latents = own.sample(torch.stack(drawn).to(policy.device))
    return total
