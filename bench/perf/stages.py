"""Throughput of the runner's stages: rollout, update, decoding and scoring, as the runner calls them.

Operations are those of `bench.counting` times the rows that a stage sends through the transformer (`bench.costs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench import costs, rewards, update
from bench.costs import Plan, shape_of
from bench.counting import Counts, count
from bench.experiments import find_row
from bench.perf.meter import Clock, matmul_peak
from bench.perf.subjects import Subject
from bench.policy import DTYPES
from bench.ranks import Ranks
from bench.rewarding import RewardError, Rewarding
from bench.rollout import Samples
from bench.update import Penalty, StepRecord
from gold_metrics.scorer import Scorer
from gold_metrics.weights import WeightsError


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of each stage of one epoch; none are counted for a scorer."""

    rollout: int
    update: int
    decode: int


@dataclass(frozen=True)
class Stage:
    """One stage of one epoch.

    Attributes:
        images: members of the epoch, or for decoding and scoring their images.
        seconds: median; None where it could not be measured, and `note` says why.
        operations: None where they are not counted.
        share: operations per second over the matrix-product peak of the policy's dtype, or float32 for the decoder.
        peak_bytes: as `Clock.peak_bytes`.
    """

    name: str
    images: int
    seconds: float | None
    operations: int | None
    share: float | None
    peak_bytes: int
    note: str = ""


def operations(plan: Plan, counts: Counts) -> Operations:
    """Of the plan of one epoch: rows through the transformer times what one costs, and images times a decoding."""
    decode = plan.images_rollout * counts.decode
    return Operations(
        rollout=plan.forwards_rollout * counts.forward + decode,
        update=plan.forwards_training * counts.forward + plan.backwards * counts.backward,
        decode=decode,
    )


def peaks(subject: Subject, clock: Clock) -> dict[str, float]:
    """FLOP per second of matrix products, in float32 and in the policy's dtype."""
    return {name: matmul_peak(clock, DTYPES[name]) for name in dict.fromkeys(("float32", subject.backbone.dtype))}


def gradients(subject: Subject, samples: Samples, ranks: Ranks) -> list[StepRecord]:
    """The runner's gradients on all members, cut as the settings say."""
    optim = subject.settings.optim
    penalty = Penalty(optim.kl_beta, optim.kl_unit) if optim.kl_beta else None
    rows = torch.arange(len(samples.members))
    at = (subject.policy, subject.recipe, samples, rows, subject.times, optim.micro_batch, ranks)
    return update.gradients(*at, stacked_steps=optim.stacked_steps, penalty=penalty)


def measure(subject: Subject, clock: Clock, repeats: int, peak: dict[str, float]) -> list[Stage]:
    """Every stage in the order of an epoch, `repeats` times each.

    Args:
        peak: of `peaks`.
    """
    samples, ranks = subject.sample(), Ranks()
    counted = operations(costs.plan(subject.settings), count(shape_of(subject.backbone)))
    final, members, images = samples.rollout.final.flatten(0, 1), len(subject.members), samples.images.shape[1]
    ratio = max(record.log_ratio.abs().max().item() for record in gradients(subject, samples, ranks))
    on_policy = f"largest |log ratio| before an update {ratio:.1e}, clip range {subject.recipe.clip:.1e}"
    half = peak[subject.backbone.dtype]

    def timed(work: Callable[[], Any]) -> tuple[float, int]:
        clock.forget_peak()
        return clock.typical(work, repeats), clock.peak_bytes()

    def stage(name: str, work: Callable[[], Any], images: int, done: int, peak: float, note: str = "") -> Stage:
        seconds, memory = timed(work)
        return Stage(name, images, seconds, done, done / seconds / peak, memory, note)

    return [
        stage("rollout", subject.sample, members, counted.rollout, half, "decoding included"),
        stage("update", lambda: gradients(subject, samples, ranks), members, counted.update, half, on_policy),
        stage("decode", lambda: subject.policy.decode(final), members * images, counted.decode, peak["float32"]),
        scoring(subject, samples, timed),
    ]


def scoring(subject: Subject, samples: Samples, timed: Callable[..., tuple[float, int]]) -> Stage:
    """The row's proxy on the samples; where it is not on this machine, the reason."""
    settings, task = subject.settings, find_row(subject.settings.row).task
    name, total = f"scoring ({task})", samples.rewards.numel()
    try:
        proxy = rewards.load(task, settings.scale, settings.judges, rewarding=True)
        seconds, memory = timed(lambda: scored(subject, samples, proxy))
    except (WeightsError, ImportError, OSError, RewardError) as error:
        return Stage(name, total, None, None, None, 0, f"not measured: {' '.join(str(error).split())}")
    return Stage(name, total, seconds, None, None, memory)


def scored(subject: Subject, samples: Samples, proxy: Scorer) -> Tensor:
    """The rewards (B, F) of all images, as the runner has them scored."""
    with Rewarding(proxy, subject.policy.device) as rewarding:
        rewarding.add(subject.members, samples.images)
        return rewarding.rewards()
