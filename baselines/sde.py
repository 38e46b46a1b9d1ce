"""One SDE kernel for FlowGRPO and DanceGRPO, which differ in the diffusion coefficient sigma alone.

A latent at flow time t is x_t = (1 - t) x_0 + t noise, and the model predicts the velocity v = noise - x_0.
`time` is t in [0, 1], `sigma` the diffusion coefficient, `dt` > 0 the length of a step, and
`std` = sigma sqrt(dt) the standard deviation of one transition. B batch, D latent elements, T steps.

Left out: FlowCPS, whose transition is not of this form, and low-precision arithmetic, because a latent
rounded after its log-probability was taken moves the on-policy ratio from 1 by more than a clip range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SDE = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """One Gaussian transition x' ~ N(mean, std^2 I) for a batch; rows may be at different times.

    Attributes:
        mean: (B, ...), of at least float32.
        time, sigma, dt: (B,).
        mean_std: scalar, the mean of `std` over all steps of the schedule but the last.
    """

    mean: Tensor
    time: Tensor
    sigma: Tensor
    dt: Tensor
    mean_std: Tensor

    @property
    def std(self) -> Tensor:
        """sigma sqrt(dt), (B,)."""
        return self.sigma * self.dt.sqrt()

    def log_prob(self, next_sample: Tensor) -> Tensor:
        """Log-density of `next_sample`, the mean over D and not the sum, (B,).

        flow_grpo sd3_sde_with_logprob.py and DanceGRPO train_grpo_flux.py:131-170 take the mean; only with it
        do the clip ranges of the papers make sense. No gradient flows through `next_sample`.

        Raises:
            ValueError: `next_sample` has another shape than `mean`.
        """
        if next_sample.shape != self.mean.shape:
            raise ValueError(
                f"next_sample must have the shape of mean, {tuple(self.mean.shape)}, found {tuple(next_sample.shape)}"
            )
        squared = (next_sample.detach().to(self.mean) - self.mean).square().flatten(1).mean(1)
        return -squared / (2 * self.std**2) - self.std.log() - 0.5 * math.log(2 * math.pi)

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std noise, of the shape of `mean`."""
        return self.mean + per_row(self.std, self.mean) * noise.to(self.mean)


def flow_sde(time: Tensor, times: Tensor, noise_level: float) -> Tensor:
    """sigma = a sqrt(t / (1 - t)); at t = 1 the denominator takes the second time of the schedule.

    flow_grpo sd3_sde_with_logprob.py:46-50. `time` has any shape, `times` is (T + 1,).
    """
    finite = torch.where(time == 1, times[1], time)
    return torch.sqrt(time / (1 - finite)) * noise_level


def dance_sde(time: Tensor, times: Tensor, noise_level: float) -> Tensor:
    """sigma = eta at every time. DanceGRPO train_grpo_flux.py:148."""
    return torch.full_like(time, noise_level)


def kernel_mean(sample: Tensor, velocity: Tensor, time: Tensor, dt: Tensor, sigma: Tensor) -> Tensor:
    """x (1 - sigma^2 dt / (2t)) - v (1 + sigma^2 (1 - t) / (2t)) dt, of the shape of `sample`.

    flow_grpo sd3_sde_with_logprob.py:42-68; algebraically also DanceGRPO train_grpo_flux.py:131-170.
    """
    score = sigma**2 / (2 * time)
    keep, move = 1 - score * dt, velocity_gain(time, sigma) * dt
    return per_row(keep, sample) * sample - per_row(move, sample) * velocity


def velocity_gain(time: Tensor, sigma: Tensor) -> Tensor:
    """beta = |d mean / d velocity| / dt = 1 + sigma^2 (1 - t) / (2t), of the shape of `time`."""
    return 1 + sigma**2 * (1 - time) / (2 * time)


def ode_step(sample: Tensor, velocity: Tensor, times: Tensor, index: int | Tensor) -> Tensor:
    """The deterministic Euler step x - v dt, of the shape of `sample`; the kernel's limit at sigma = 0."""
    sample, velocity = promote(sample, velocity)
    _, dt = interval(matching_times(times, sample), index, sample)
    return sample - per_row(dt, sample) * velocity


def x0_prediction(sample: Tensor, velocity: Tensor, times: Tensor, index: int | Tensor) -> Tensor:
    """The clean latent x - t v that the velocity points at, of the shape of `sample`."""
    sample, velocity = promote(sample, velocity)
    time, _ = interval(matching_times(times, sample), index, sample)
    return sample - per_row(time, sample) * velocity


def promote(sample: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one floating type of at least float32.

    Raises:
        ValueError: the shapes differ, or there is no latent dimension beside the batch.
    """
    if sample.shape != velocity.shape or sample.ndim < 2:
        raise ValueError(
            f"sample and velocity must share one shape (B, ...), found {tuple(sample.shape)} and "
            f"{tuple(velocity.shape)}; decode or unpack one of them first"
        )
    dtype = torch.promote_types(sample.dtype, velocity.dtype)
    return at_least_float32(sample.to(dtype)), at_least_float32(velocity.to(dtype))


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32, or in float64 if they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def matching_times(times: Tensor, sample: Tensor) -> Tensor:
    """`times` (T + 1,) in the type and on the device of `sample`.

    Raises:
        ValueError: not a strictly falling schedule of at least two steps within [0, 1] that ends at 0.
    """
    falls = times.ndim == 1 and len(times) > 2 and bool((times[:-1] > times[1:]).all())
    if not (falls and float(times[0]) <= 1 and float(times[-1]) == 0):
        raise ValueError(
            f"times must fall strictly from at most 1 to exactly 0 in two steps or more, found {times}; "
            "pass the scheduler's sigmas with the closing 0, not its timesteps"
        )
    return times.to(sample)


def interval(times: Tensor, index: int | Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """`time` and `dt` of step `index` for every row of `sample`, both (B,).

    Raises:
        ValueError: `index` is neither an int nor a LongTensor (B,).
        IndexError: a step outside 0 ... T - 1.
    """
    rows = torch.as_tensor(index, device=sample.device)
    if rows.dtype != torch.long or rows.shape not in ((), sample.shape[:1]):
        raise ValueError(
            f"index must be an int or a LongTensor of shape ({len(sample)},), found {rows.dtype} of shape "
            f"{tuple(rows.shape)}"
        )
    last = len(times) - 2
    if bool(((rows < 0) | (rows > last)).any()):
        raise IndexError(f"index must lie in 0 ... {last}, the steps of this schedule, found {index}")
    rows = rows.expand(len(sample))
    return times[rows], times[rows] - times[rows + 1]


def mean_std(sde: SDE, times: Tensor, noise_level: float) -> Tensor:
    """Mean of sigma sqrt(dt) over the steps 0 ... T - 2 of `times`, scalar."""
    start, end = times[:-2], times[1:-1]
    return (sde(start, times, noise_level) * (start - end).sqrt()).mean()


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """`values` (B,) shaped (B, 1, ...) so that it multiplies `like` (B, ...) row by row."""
    return values.view(-1, *[1] * (like.ndim - 1))
