"""One optimiser update from sampled transitions, with a record of every trained step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import baselines
from baselines.recipe import Recipe
from bench.policy import Policy
from bench.ranks import Ranks
from bench.rollout import Samples


class GateError(RuntimeError):
    """The on-policy ratio is not 1: numerics, not learning, would move the clip."""


@dataclass(frozen=True)
class StepRecord:
    """What one trained step contributed to an update.

    Attributes:
        step: index of the step, 0 is the noisiest.
        log_ratio, advantage: (n,), the trained transitions of this step.
        loss: mean clipped surrogate over them.
        grad_norm: norm of that loss's gradient, before accumulation and clipping.
    """

    step: int
    log_ratio: Tensor
    advantage: Tensor
    loss: float
    grad_norm: float


def trainable(policy: Policy) -> list[Tensor]:
    """The parameters that an update changes, in a fixed order."""
    return [p for p in policy.transformer.parameters() if p.requires_grad]


def gradients(
    policy: Policy,
    recipe: Recipe,
    samples: Samples,
    rows: Tensor,
    times: Tensor,
    micro_batch: int,
    ranks: Ranks,
) -> list[StepRecord]:
    """Leaves in `.grad` the gradient of the mean loss over all trained transitions of the members `rows` of all ranks.

    Steps are looped over outermost, so that each step's own gradient is known at the cost of one sum.

    Args:
        rows: LongTensor, members of `samples` that this update trains on.
        micro_batch: transitions per forward pass.
        ranks: the processes that share the run; records are of all of them, on every rank.
    """
    parameters = trainable(policy)
    _take_gradient(parameters)  # what an earlier update left
    total = torch.zeros(sum(p.numel() for p in parameters), device=policy.device)
    transitions = ranks.sum(samples.mask[rows].sum().to(total))
    records = []
    for step in range(samples.mask.shape[1]):
        chosen = rows[samples.mask[rows, step]]
        count = ranks.sum(torch.tensor(float(len(chosen)), device=total.device))
        if count == 0:
            continue
        loss, log_ratio = _accumulate(policy, recipe, samples, chosen, times, step, micro_batch, float(count))
        gradient = ranks.sum(_take_gradient(parameters))
        total += gradient * (count / transitions)
        pairs = ranks.gather([(loss, log_ratio, samples.advantages[chosen, step])])
        losses, log_ratios, advantages = zip(*pairs, strict=True)
        records.append(
            StepRecord(step, torch.cat(log_ratios), torch.cat(advantages), sum(losses), gradient.norm().item())
        )
    _put_gradient(parameters, total)
    return records


def _accumulate(
    policy: Policy,
    recipe: Recipe,
    samples: Samples,
    chosen: Tensor,
    times: Tensor,
    step: int,
    micro_batch: int,
    count: float,
) -> tuple[float, Tensor]:
    loss, log_ratios = 0.0, [torch.empty(0)]
    prompt_row = torch.tensor([m.row for m in samples.members], device=policy.device)
    for part in chosen.split(micro_batch) if len(chosen) else ():
        state, following = samples.rollout.state[part, step], samples.rollout.next[part, step]
        conditioning = samples.conditioning.rows(prompt_row[part])
        velocity = policy.velocity(state, times[step].expand(len(part)), conditioning)
        new = recipe.step(state, velocity, times, step)
        old = recipe.old_step(samples.rollout.mean[part, step], times, step)
        result = baselines.loss(recipe, new, old, following, samples.advantages[part, step].to(state))
        (result.value * (len(part) / count)).backward()
        loss += result.value.item() * len(part) / count
        log_ratios.append(result.log_ratio.detach().float().cpu())
    return loss, torch.cat(log_ratios)


def _take_gradient(parameters: list[Tensor]) -> Tensor:
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    for p in parameters:
        p.grad = None
    return flat


def _put_gradient(parameters: list[Tensor], flat: Tensor) -> None:
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p).clone()


def check_on_policy(records: list[StepRecord], recipe: Recipe) -> None:
    """The gate before a run trains: with unchanged weights every ratio is 1 to within a tenth of the clip range.

    Raises:
        GateError: it is not; the message says where and what usually causes it.
    """
    sizes = {r.step: r.log_ratio.abs().max().item() for r in records if len(r.log_ratio)}
    # Of all comparisons with a NaN only "not within" tells it from a small number.
    wrong = [step for step, size in sizes.items() if not size <= recipe.clip / 10]
    if wrong:
        raise GateError(
            f"the on-policy log ratio should be 0 and reaches {sizes[wrong[0]]:.1e} at step {wrong[0]}, more than a "
            f"tenth of the clip range {recipe.clip:.1e}. Rollout and update do not compute the same mean: keep "
            "latents and means in float32, and in half precision give both one micro-batch size"
        )
