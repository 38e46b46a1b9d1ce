"""One optimizer update from sampled transitions, with a record of every trained step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate

import torch
from torch import Tensor

import baselines
from baselines.recipe import Recipe
from baselines.sde import Step
from baselines.terms import KL_UNITS, log_r
from bench import gradient
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
        grad_norm: norm of that loss's gradient (and the penalty's), before accumulation and clipping; NaN where
            steps shared a forward, so that their gradients were not apart.
        kl: mean of the penalty in its unit, before beta; NaN without one.
        plain: (n,), log r as a mean over the latent's `elements`, before what the recipe makes of it.
    """

    step: int
    log_ratio: Tensor
    advantage: Tensor
    loss: float
    grad_norm: float
    kl: float = math.nan
    plain: Tensor = field(default_factory=lambda: torch.empty(0))
    elements: int = 1


@dataclass(frozen=True)
class Penalty:
    """beta times the KL to the policy without its adapter, in a unit of `baselines.terms.KL_UNITS`."""

    beta: float
    unit: str

    def of(self, new: Step, reference: Step) -> Tensor:
        """The KL of each row in the penalty's unit, (B,)."""
        return KL_UNITS[self.unit](new, reference)


def trainable(policy: Policy) -> list[Tensor]:
    """The parameters that an update changes, in a fixed order."""
    return [p for p in policy.transformer.parameters() if p.requires_grad]


@dataclass(frozen=True)
class _Part:
    """The transitions of one forward: step, advantage, both log ratios, surrogate and KL, each (n,) and on the CPU."""

    step: Tensor
    advantage: Tensor
    log_ratio: Tensor
    plain: Tensor
    loss: Tensor
    kl: Tensor


def gradients(
    policy: Policy,
    recipe: Recipe,
    samples: Samples,
    rows: Tensor,
    times: Tensor,
    micro_batch: int,
    ranks: Ranks,
    *,
    stacked_steps: int = 1,
    penalty: Penalty | None = None,
) -> list[StepRecord]:
    """Leaves in `.grad` the gradient of the mean loss over all trained transitions of the members `rows` of all ranks.

    Steps are looped over outermost, so that each step's own gradient is known at the cost of one sum.

    Args:
        rows: LongTensor, members of `samples` that this update trains on.
        micro_batch: transitions per forward pass.
        ranks: the processes that share the run; records are of all of them, on every rank.
        stacked_steps: how many steps' transitions may share a forward; faster where members are few.
        penalty: on the distance to the policy without its adapter.
    """
    parameters = trainable(policy)
    total = [torch.zeros_like(part) for part in gradient.take(parameters)]  # and what an earlier update left is gone
    mine = samples.mask[rows].sum(0)
    counts = ranks.sum(mine.to(policy.device, torch.float32)).tolist()
    step, row = samples.mask[rows].T.nonzero(as_tuple=True)
    transitions = torch.stack([rows[row], step], 1)  # member and step of every trained transition, step by step
    records = []
    for chosen, count, steps in _stacks(transitions, mine.tolist(), counts, stacked_steps):
        idle = ranks.idle(-(-len(chosen) // micro_batch), parameters)
        parts = _accumulate(policy, recipe, samples, chosen, times, micro_batch, count, idle, penalty)
        part = ranks.sum_gradient(parameters)
        norm = gradient.norm(part) if len(steps) == 1 else math.nan
        torch._foreach_mul_(part, count / sum(counts))
        torch._foreach_add_(total, part)
        records += _records(ranks.gather(parts), steps, norm, samples.rollout.mean[0, 0].numel())
    gradient.put(parameters, total)
    return records


def _stacks(
    transitions: Tensor, mine: list[int], counts: list[float], size: int
) -> Iterator[tuple[Tensor, float, list[int]]]:
    """For every `size` steps: this rank's transitions, the number of all ranks', and the steps that have any."""
    ends = [0, *accumulate(mine)]
    for first in range(0, len(counts), size):
        last = min(first + size, len(counts))
        steps = [step for step in range(first, last) if counts[step]]
        if steps:
            yield transitions[ends[first] : ends[last]], sum(counts[first:last]), steps


def _accumulate(
    policy: Policy,
    recipe: Recipe,
    samples: Samples,
    chosen: Tensor,
    times: Tensor,
    micro_batch: int,
    count: float,
    idle: int,
    penalty: Penalty | None,
) -> list[_Part]:
    parts = []
    for batch in chosen.split(micro_batch) if len(chosen) else ():
        part, value = _forward(policy, recipe, samples, batch, times, penalty)
        (value * (len(batch) / count)).backward()
        parts.append(part)
    for _ in range(idle):  # passes that other ranks make and this one has to join
        _, value = _forward(policy, recipe, samples, torch.zeros(1, 2, dtype=torch.long), times, penalty)
        (value * 0).backward()
    return parts


def _forward(
    policy: Policy, recipe: Recipe, samples: Samples, batch: Tensor, times: Tensor, penalty: Penalty | None
) -> tuple[_Part, Tensor]:
    """The transitions `batch` (n, 2) under the current policy, and their mean loss with gradient."""
    member, step = batch.unbind(1)
    rollout = samples.rollout
    state, following = rollout.state[member, step], rollout.next[member, step]
    prompt_row = torch.tensor([samples.members[i].row for i in member.tolist()], device=policy.device)
    conditioning, time = samples.conditioning.rows(prompt_row), times[step]
    new = recipe.step(state, policy.velocity(state, time, conditioning), times, step)
    old = replace(new, mean=rollout.mean[member, step])  # as `recipe.old_step` makes it, from the same times
    advantage = samples.advantages[member, step]
    result = baselines.loss(recipe, new, old, following, advantage.to(state))
    value, kl = result.value, torch.full((len(batch),), math.nan)
    if penalty:
        with policy.reference(), torch.no_grad():
            reference = recipe.step(state, policy.velocity(state, time, conditioning), times, step)
        distance = penalty.of(new, reference)
        value, kl = value + penalty.beta * distance.mean(), distance.detach().cpu()
    with torch.no_grad():
        plain = log_r(new, old, following)
    log_ratio, plain, loss = (found.detach().float().cpu() for found in (result.log_ratio, plain, result.rows))
    return _Part(step, advantage, log_ratio, plain, loss, kl), value


def _records(parts: list[_Part], steps: list[int], norm: float, elements: int) -> list[StepRecord]:
    """The records of `steps` from the parts of every rank."""
    names = [each.name for each in fields(_Part)]
    joined = _Part(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
    records = []
    for step in steps:
        rows = joined.step == step
        loss, kl = (found[rows].mean().item() for found in (joined.loss, joined.kl))
        own = joined.log_ratio[rows], joined.advantage[rows], loss, norm, kl, joined.plain[rows], elements
        records.append(StepRecord(step, *own))
    return records


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
            "latents and means in float32, tf32=false, and the forwards of both of one size (`Policy.rows`)"
        )
