"""A method is a row: `Recipe` holds one choice per column, `loss` is where the terms meet (eq. 12).

Left out of the row, because it is equal between methods: learning rate, KL penalty, prompts, noise, updates.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baselines.advantage import Advantage
from baselines.plan import Plan
from baselines.sde import (
    SDE,
    Step,
    at_least_float32,
    interval,
    kernel_mean,
    matching_times,
    mean_std,
    promote,
)
from baselines.terms import LogRatio, StepWeight

ADVANTAGE_CLIP = 5.0  # flow_grpo config/base.py, adv_clip_max; DanceGRPO train_grpo_flux.py:533-548


@dataclass(frozen=True)
class Recipe:
    """One method, complete. A column is a number, a plan or a named pure function.

    Attributes:
        name: what the recipe is called on the command line and in tables.
        sde: (time, times, noise_level) -> sigma.
        noise_level: a of FlowGRPO, eta of DanceGRPO.
        plan: which steps are stochastic, trained, share noise, branch.
        advantage: rewards -> advantages of the same shape, over the last axis.
        log_ratio: (new step, old step, next sample) -> (B,).
        step_weight: step -> (B,), factor on the clipped surrogate.
        clip: the ratio is held in [1 - clip, 1 + clip].
        advantage_clip: advantages are held in [-advantage_clip, advantage_clip] by the loss.
        batch: samples of one step that the log ratio couples, and so the micro-batch it is defined for; 1: none. The
            last micro-batch of a step is smaller where a rank's share is no multiple of it.
    """

    name: str
    sde: SDE
    noise_level: float
    plan: Plan
    advantage: Advantage
    log_ratio: LogRatio
    step_weight: StepWeight
    clip: float
    advantage_clip: float = ADVANTAGE_CLIP
    batch: int = 1

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_functions()

    def step(self, sample: Tensor, velocity: Tensor, times: Tensor, index: int | Tensor) -> Step:
        """The transition from step `index` of `times`.

        Args:
            sample: (B, ...), the latent at that step's time.
            velocity: (B, ...), the policy's prediction there; gradient flows through it.
            times: (T + 1,), flow times from 1 to 0.
            index: int, or LongTensor (B,) with a step for each row.
        """
        sample, velocity = promote(sample, velocity)
        at = self.old_step(sample, times, index)
        return replace(at, mean=kernel_mean(sample, velocity, at.time, at.dt, at.sigma))

    def old_step(self, mean: Tensor, times: Tensor, index: int | Tensor) -> Step:
        """The transition with a mean (B, ...) that a rollout recorded; all else follows from `times`."""
        mean = at_least_float32(mean)
        times = matching_times(times, mean)
        time, dt = interval(times, index, mean)
        sigma = self.sde(time, times, self.noise_level)
        return Step(mean, time, sigma, dt, mean_std(self.sde, times, self.noise_level))

    def columns(self) -> dict[str, str | float]:
        """The row as printable values; a plan's columns as `plan.NAME`."""
        row: dict[str, str | float] = {}
        for key, value in _fields(self):
            if isinstance(value, Plan):
                row[key] = type(value).__name__.lower()
                row |= {f"{key}.{part}": _printable(choice) for part, choice in _fields(value)}
            else:
                row[key] = _printable(value)
        return row

    def _check_numbers(self) -> None:
        if not (0 < self.noise_level < math.inf and 0 < self.clip < 1 and 0 < self.advantage_clip < math.inf):
            raise ValueError(
                f"recipe {self.name!r}: noise_level and advantage_clip must be positive, clip in (0, 1), "
                f"found {self.noise_level}, {self.advantage_clip} and {self.clip}"
            )

    def _check_functions(self) -> None:
        times = torch.tensor([1.0, 0.6, 0.3, 0.0])
        step = self.step(torch.ones(2, 2), torch.zeros(2, 2), times, torch.tensor([0, 1]))
        advantage = self.advantage(torch.tensor([[0.0, 1.0, 3.0]]))
        claims = {
            "sde must give a positive finite sigma": _positive(step.sigma),
            "step_weight must give a positive finite number per row": _positive(self.step_weight(step)),
            "log_ratio must be 0 per row where the policies agree": not bool(
                self.log_ratio(step, step, step.sample(torch.ones(2, 2))).any()
            ),
            "advantage must keep the shape and centre each group": advantage.shape == (1, 3)
            and abs(float(advantage.sum())) < 1e-6,
        }
        for claim, holds in claims.items():
            if not holds:
                raise ValueError(f"recipe {self.name!r}: {claim}; check that column")


@dataclass(frozen=True, eq=False)
class LossResult:
    """`value`: scalar with gradient, the mean of `rows` (B,). `log_ratio`: (B,), as the clip saw it."""

    rows: Tensor
    log_ratio: Tensor

    @property
    def value(self) -> Tensor:
        return self.rows.mean()


def loss(recipe: Recipe, new: Step, old: Step, next_sample: Tensor, advantage: Tensor) -> LossResult:
    """mean_b w max(-A r, -A clip(r, 1 - eps, 1 + eps)) with the recipe's w, r, eps (GRPO-Guard eq. 12).

    flow_grpo train_sd3_GRPO_Guard.py:915-932. Gradient flows through `new` alone. The clip acts on log r:
    in float32 the numbers next to 1 are 1e-7 apart, a twentieth of GRPO-Guard's clip range.

    Args:
        recipe: the method.
        new: the current policy's step.
        old: the step of the policy that sampled.
        next_sample: (B, ...), the latent that was sampled.
        advantage: (B,).

    Raises:
        ValueError: shapes that broadcasting would hide, or steps at different times.
    """
    _check_alike(new, old, next_sample, advantage)
    log_ratio = recipe.log_ratio(new, old, next_sample)
    bounded = advantage.detach().to(log_ratio).clamp(-recipe.advantage_clip, recipe.advantage_clip)
    surrogate = -bounded * clipped(log_ratio, bounded, recipe.clip).exp()
    return LossResult(recipe.step_weight(new) * surrogate, log_ratio)


def clipped(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """The log ratio that max(-A r, -A clip(r)) selects, (B,): capped above where A > 0, below where A < 0."""
    above = log_ratio.clamp(max=math.log1p(clip))
    below = log_ratio.clamp(min=math.log1p(-clip))
    return torch.where(advantage > 0, above, below)


def _check_alike(new: Step, old: Step, next_sample: Tensor, advantage: Tensor) -> None:
    shapes = [tuple(t.shape) for t in (new.mean, old.mean, next_sample)]
    if len(set(shapes)) > 1 or advantage.shape != new.mean.shape[:1]:
        raise ValueError(
            f"new.mean, old.mean and next_sample must share (B, ...) and advantage be (B,), "
            f"found {shapes} and {tuple(advantage.shape)}; take one row per sample of the micro-batch"
        )
    if not torch.allclose(new.std.to(old.std), old.std, rtol=1e-5):
        raise ValueError(
            f"new and old must be the same step of the same schedule, found std {new.std.tolist()} and "
            f"{old.std.tolist()}; pass the index with which the rollout was made"
        )


def _positive(values: Tensor) -> bool:
    return values.shape == (2,) and bool((torch.isfinite(values) & (values > 0)).all())


def _fields(row: Recipe | Plan) -> list[tuple[str, object]]:
    return [(field.name, getattr(row, field.name)) for field in dataclasses.fields(row)]


def _printable(value: object) -> str | float:
    return value if isinstance(value, (str, int, float)) else getattr(value, "__name__", repr(value))
