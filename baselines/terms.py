"""Log ratios and step weights: the two columns of GRPO-Guard's Table 2, each term a pure function.

With x' the sampled latent, mu and mu_old the new and old means, <.> the mean over D latent elements:

    log r                           = <(x' - mu_old)(mu - mu_old)> / std^2 - <(mu - mu_old)^2> / (2 std^2)
    log r + bias                    = <(x' - mu_old)(mu - mu_old)> / std^2
    std (log r + bias)  (RatioNorm) = <(x' - mu_old)(mu - mu_old)> / std

These are exact rearrangements of log_prob_new - log_prob_old. Evaluated so, the rounding error in float32 is
about 4000 times smaller than that of the difference, which for RatioNorm is of the size of the clip range.
Left out: the reduction by a sum, which flow_grpo's author found unstable (flow_grpo issue 143).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.sde import Step, velocity_gain

LogRatio = Callable[[Step, Step, Tensor], Tensor]
StepWeight = Callable[[Step], Tensor]


def projection(new: Step, old: Step, next_sample: Tensor) -> Tensor:
    """<(x' - mu_old)(mu - mu_old)> / std^2, (B,): the part of log r with mean zero under the old policy."""
    noise = next_sample.detach().to(new.mean) - old.mean.detach()
    return (noise * (new.mean - old.mean.detach())).flatten(1).mean(1) / new.std**2


def bias(new: Step, old: Step) -> Tensor:
    """||mu - mu_old||^2 / (2 std^2), the squared norm as a mean over D, (B,): minus E[log r] (eq. 7).

    It carries gradient: that gradient is what cancels the drift term in the gradient of log r.
    """
    return (new.mean - old.mean.detach()).square().flatten(1).mean(1) / (2 * new.std**2)


def log_r(new: Step, old: Step, next_sample: Tensor) -> Tensor:
    """log r = log_prob_new - log_prob_old, (B,). FlowGRPO, DanceGRPO, TempFlowGRPO."""
    return projection(new, old, next_sample) - bias(new, old)


def mean_revised(new: Step, old: Step, next_sample: Tensor) -> Tensor:
    """log r + bias, (B,): centred, its spread still that of the step. Table 2, "Mean-revised"."""
    return projection(new, old, next_sample)


def ratio_norm(new: Step, old: Step, next_sample: Tensor) -> Tensor:
    """std (log r + bias), (B,). GRPO-Guard's RatioNorm, the bias of each sample its own.

    The form that the authors name correct in flow_grpo issue 244.
    """
    return new.std * projection(new, old, next_sample)


def ratio_norm_batch(new: Step, old: Step, next_sample: Tensor) -> Tensor:
    """std (log r + mean of the bias over the batch), (B,). The released form.

    flow_grpo train_sd3_GRPO_Guard.py:915-932 takes a mean over an empty tuple of dimensions, which torch
    reads as all of them, the batch included.
    """
    return new.std * (log_r(new, old, next_sample) + bias(new, old).mean())


def kl(new: Step, reference: Step) -> Tensor:
    """KL(new || reference) of one transition as a mean over D, (B,). flow_grpo before 2d76907, TempFlow-GRPO."""
    return bias(new, reference)


def kl_without_dt(new: Step, reference: Step) -> Tensor:
    """`kl` times dt, (B,). flow_grpo train_sd3.py:900 since 2d76907, with beta ten times as large (issue 78)."""
    return new.dt * bias(new, reference)


KL_UNITS: dict[str, Callable[[Step, Step], Tensor]] = {"with_dt": kl, "without_dt": kl_without_dt}


def uniform(step: Step) -> Tensor:
    """1, (B,). FlowGRPO and DanceGRPO weigh all steps alike."""
    return torch.ones_like(step.dt)


def noise_aware(step: Step) -> Tensor:
    """std / mean(std) over the schedule, (B,). TempFlowGRPO's Norm(sigma sqrt(dt)).

    TempFlow-GRPO train_sd3_pr.py:954 writes 2.25 for 1 / mean(std) on SD3; the schedule gives 2.252.
    Table 2 prints sigma sqrt(dt), which differs by that constant of the schedule alone.
    """
    return step.std / step.mean_std


def inverse_dt(step: Step) -> Tensor:
    """1 / dt, (B,). GRPO-Guard eq. 12; flow_grpo train_sd3_GRPO_Guard.py:915-932."""
    return 1 / step.dt


def beta_over_dt(step: Step) -> Tensor:
    """beta / dt with beta = 1 + sigma^2 (1 - t) / (2t), (B,).

    Reading notes on GRPO-Guard (section 3.2.3) give it for DanceGRPO, sigma = eta; no released code has it.
    """
    return velocity_gain(step.time, step.sigma) / step.dt
