"""The runner and the official flow_grpo code on one transformer, with one input, in one process: equal, and how fast.

Both roll out with the same noise and both train on the official trajectories. The timings alternate which of the two
goes first, in processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor

from baselines.plan import Rollout
from bench import gradient, rollout, update
from bench.perf.meter import Clock
from bench.perf.peer import Peer, Trajectories
from bench.perf.subjects import SEED, Subject, assemble, made_up, random_policy, settings_of
from bench.ranks import Ranks
from bench.rollout import Samples
from bench.update import Penalty, StepRecord

# SD3.5-M's transformer made small, 2.6 million parameters: with fewer, a CPU measures Python and not arithmetic.
TRANSFORMER = {
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "caption_projection_dim": 128,
    "joint_attention_dim": 256,
    "pooled_projection_dim": 128,
    "dual_attention_layers": (0, 1),
}
AUTOENCODER = {"block_out_channels": (16, 32, 32, 32), "norm_num_groups": 8}  # at 512 pixels it is 3 % of an epoch
TEXT_TOKENS = 16  # our choice: few, so that it is the image tokens that are measured


@dataclass(frozen=True)
class Case:
    """A batch of SD3 images of `resolution` pixels, with or without KL."""

    name: str
    batch: int
    resolution: int
    beta: float


CASES = tuple(
    Case(f"{batch} images of {tokens} tokens, KL {'on' if beta else 'off'}", batch, resolution, beta)
    for batch, resolution, tokens in ((4, 64, 16), (8, 128, 64))
    for beta in (0.0, 0.04)  # flow_grpo config/grpo.py, train.beta
)
STACKS = (1, 3)  # timesteps in a forward


def subject_of(case: Case, steps: int = 10) -> Subject:
    """The subject of a case on the CPU: FlowGRPO with true guidance, an adapter of rank 32, all in float32."""
    overrides = [
        f"backbones.sd3.resolution={case.resolution}",
        "backbones.sd3.dtype=float32",
        f"sampling.steps={steps}",
        f"optim.kl_beta={case.beta}",
        "optim.kl_unit=without_dt",
    ]
    settings = settings_of("sd3_flow_text", "paper", case.batch, overrides)
    backbone = settings.backbones["sd3"]
    parts = {"transformer": TRANSFORMER, "vae": AUTOENCODER}
    made = random_policy(backbone, torch.device("cpu"), TEXT_TOKENS, parts)
    return assemble(settings, backbone, made, made_up())


@dataclass(frozen=True)
class Agreement:
    """How far the two are apart.

    Attributes:
        latents, log_probs: largest difference of the rollouts.
        ratio, official_ratio: largest |ratio - 1| of the on-policy training steps, ours and theirs.
        gradients: norm of the difference of the gradients of all steps, over the norm of theirs; by stacked steps.
    """

    latents: float
    log_probs: float
    ratio: dict[int, float]
    official_ratio: float
    gradients: dict[int, float]


def agreement(peer: Peer, subject: Subject) -> Agreement:
    """Compares rollout, ratios and gradients."""
    ours, theirs, ranks = subject.sample(), same_rollout(peer, subject), Ranks()
    parameters = update.trainable(subject.policy)
    log_probs = torch.stack([_log_probs(subject, ours.rollout, step) for step in range(ours.mask.shape[1])], 1)
    visited = torch.cat([ours.rollout.state, ours.rollout.next[:, -1:], ours.rollout.final], 1)
    samples = on(theirs, ours)
    ratios = peer.train_epoch(subject, theirs.as_batch(), samples.advantages[:, 0])
    wanted = gradient.take(parameters)[0]
    ratio, differences = {}, {}
    for stacked in STACKS:
        records = train(subject, samples, stacked, ranks)
        ratio[stacked] = max(record.log_ratio.exp().sub(1).abs().max().item() for record in records)
        differences[stacked] = ((gradient.take(parameters)[0] - wanted).norm() / wanted.norm()).item()
    return Agreement(
        (visited - theirs.latents).abs().max().item(),
        (log_probs - theirs.log_probs[:, :-1]).abs().max().item(),
        ratio,
        max((each - 1).abs().max().item() for each in ratios),
        differences,
    )


def same_rollout(peer: Peer, subject: Subject) -> Trajectories:
    """The official rollout with the noise that the runner draws."""
    shape, steps = subject.policy.latent_shape, subject.settings.sampling.steps
    initial = rollout.draw(subject.members, SEED, 0, "initial", 0, shape)
    draws = [rollout.draw(subject.members, SEED, 0, "sde", step, shape) for step in range(steps)]
    with peer.noise(draws):
        return peer.rollout(subject, initial)


def _log_probs(subject: Subject, made: Rollout, step: int) -> Tensor:
    return subject.recipe.old_step(made.mean[:, step], subject.times, step).log_prob(made.next[:, step])


def on(theirs: Trajectories, samples: Samples) -> Samples:
    """The official trajectories as samples of the runner."""
    made = Rollout(theirs.latents[:, :-2], theirs.latents[:, 1:-1], theirs.means[:, :-1], theirs.latents[:, -1:])
    return replace(samples, rollout=made)


def train(subject: Subject, samples: Samples, stacked: int, ranks: Ranks) -> list[StepRecord]:
    """The runner's gradients of all trained steps, `stacked` of them in a forward."""
    optim, size = subject.settings.optim, len(subject.members)
    penalty = Penalty(optim.kl_beta, optim.kl_unit) if optim.kl_beta else None
    at = (subject.policy, subject.recipe, samples, torch.arange(size), subject.times, size * stacked, ranks)
    return update.gradients(*at, stacked_steps=stacked, penalty=penalty)


@dataclass(frozen=True)
class Ratio:
    """Least seconds of both over all turns, theirs over ours of these, and the quartiles of the turns' own ratios.

    What else runs on a machine only adds to the processor time of a turn, so the least is nearest to the work's own.
    """

    theirs: float
    ours: float
    ratio: float
    quartiles: tuple[float, float, float]


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Of the seconds of the same turns."""
    low, middle, high = quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
    return Ratio(min(theirs), min(ours), min(theirs) / min(ours), (low, middle, high))


def by_turns(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each work in `repeats` turns, every other one backwards, after one that is not counted."""
    clock = Clock(torch.device("cpu"))
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-1, repeats):
        for name, work in list(works.items())[:: -1 if turn % 2 else 1]:
            seconds = clock.seconds(work)
            if turn >= 0:
                found[name].append(seconds)
    return found


def speed(peer: Peer, subject: Subject, repeats: int) -> dict[str, Ratio]:
    """Rollout, the training steps of an epoch unstacked and stacked, and both together, the epoch."""
    theirs, ours, ranks = same_rollout(peer, subject), subject.sample(), Ranks()
    samples, batch, advantages = on(theirs, ours), theirs.as_batch(), ours.advantages[:, 0]
    parameters = update.trainable(subject.policy)

    def official() -> None:
        gradient.take(parameters)
        peer.train_epoch(subject, batch, advantages)

    works: dict[Any, Callable[[], Any]] = {"their rollout": lambda: peer.rollout(subject), "theirs": official}
    works |= {"rollout": subject.sample} | {k: partial(train, subject, samples, k, ranks) for k in STACKS}
    spent = by_turns(works, repeats)
    found = {"rollout": ratio(spent["their rollout"], spent["rollout"])}
    epoch = [sum(pair) for pair in zip(spent["their rollout"], spent["theirs"], strict=True)]
    for k in STACKS:
        name = f"{k} step{'s' * (k > 1)} in a forward"
        found[f"training, {name}"] = ratio(spent["theirs"], spent[k])  # type: ignore[index]
        found[f"epoch, {name}"] = ratio(epoch, [sum(pair) for pair in zip(spent["rollout"], spent[k], strict=True)])  # type: ignore[index]
    return found
