"""GRPO-Guard's Table 2 and equations 7 and 12: closed forms against autograd and Monte Carlo, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from baselines_inputs import Transition, dance_times, sd3_times, transition
from torch import Tensor

from baselines import ABLATION, RECIPES, Recipe, loss
from baselines.sde import per_row, velocity_gain
from baselines.terms import bias, log_r, mean_revised, projection, ratio_norm, ratio_norm_batch

TRAINED = range(9)  # of ten steps on SD3
SD3 = sd3_times().double()
DANCE = dance_times().double()


def per_element_gradient(recipe: Recipe, at: Transition) -> Tensor:
    """-D d(step weight * log ratio) / d velocity, (B, D): the "gradient scale" of Table 2 with its noise."""
    weighted = recipe.step_weight(at.new) * recipe.log_ratio(at.new, at.old, at.next_sample)
    gradient = torch.autograd.grad(weighted.sum(), at.velocity)[0]
    return -gradient * at.velocity[0].numel()


ClosedForm = Callable[[Transition, Tensor, Tensor, Tensor], Tensor]
# Table 2 of the paper; beta = |d mean / d velocity| / dt. Its sigma sqrt(dt) is here over its mean, as in
# TempFlowGRPO, which is a constant of the schedule.
CLOSED_FORMS: dict[str, ClosedForm] = {
    "baseline": lambda at, beta, s, h: beta * (at.drift + s * h.sqrt() * at.noise) / s**2,
    "temp_reweight": lambda at, beta, s, h: beta * (h.sqrt() * at.drift + s * h * at.noise) / s / at.new.mean_std,
    "guard_reweight": lambda at, beta, s, h: beta * (at.drift + s * h.sqrt() * at.noise) / (s**2 * h),
    "mean_revised": lambda at, beta, s, h: beta * h.sqrt() * at.noise / s,
    "ratio_norm": lambda at, beta, s, h: beta * h * at.noise,
    "grpo_guard": lambda at, beta, s, h: beta * at.noise,
}


@pytest.mark.parametrize("index", [*TRAINED, torch.tensor([8, 0, 4])], ids=str)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_gradient_scale_is_the_closed_form_of_table_2(name: str, index: int | Tensor) -> None:
    at = transition(ABLATION[name], SD3, index)
    beta, sigma, dt = (
        per_row(v, at.drift) for v in (velocity_gain(at.new.time, at.new.sigma), at.new.sigma, at.new.dt)
    )
    wanted = CLOSED_FORMS[name](at, beta, sigma, dt)
    found = per_element_gradient(ABLATION[name], at)
    assert (found - wanted).norm() / wanted.norm() < 1e-9


def test_velocity_gain_is_one_plus_half_a_squared_on_the_flow_sde() -> None:
    at = transition(RECIPES["flow_grpo"], SD3, torch.arange(1, 9), rows=8)
    torch.testing.assert_close(velocity_gain(at.new.time, at.new.sigma), torch.full((8,), 1 + 0.7**2 / 2).double())


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("baseline", 26.10),
        ("temp_reweight", 8.404),
        ("guard_reweight", 3.867),
        ("mean_revised", 26.10),
        ("ratio_norm", 8.404),
        ("grpo_guard", 1.245),
    ],
)
def test_schedule_alone_spreads_the_gradient(name: str, spread: float) -> None:
    # Unmoved policy and one noise at every step, so that only the schedule differs: max / min over steps.
    norms = [
        float(per_element_gradient(ABLATION[name], transition(ABLATION[name], SD3, i, change=0)).norm())
        for i in TRAINED
    ]
    assert max(norms) / min(norms) == pytest.approx(spread, rel=5e-4)


@pytest.mark.parametrize(
    ("name", "spread"),
    [("dance_grpo", 2.7), ("guard_dance_grpo", 1.105), ("guard_dance_grpo_beta", 1.22)],
)
def test_schedule_alone_spreads_the_gradient_on_the_dance_sde(name: str, spread: float) -> None:
    # beta is 1 at t = 1 and 1 + 0.3^2 (1 - 0.3) / 0.6 = 1.105 at t = 0.3; its square is 1.221.
    norms = [
        float(per_element_gradient(RECIPES[name], transition(RECIPES[name], DANCE, i, change=0)).norm())
        for i in range(15)
    ]
    assert max(norms) / min(norms) == pytest.approx(spread, rel=2e-2 if name == "dance_grpo" else 1e-3)


def resampled(recipe: Recipe, index: int, rows: int, width: int, change: float) -> tuple[Transition, Tensor]:
    """One latent and one moved policy, and `rows` transitions drawn from the old policy there; its m."""
    at = transition(recipe, SD3, index, rows=1, width=width, change=change)
    noise = torch.randn(rows, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    old = recipe.old_step(at.old.mean.expand(rows, -1), SD3, index)
    new = recipe.old_step(at.new.mean.detach().expand(rows, -1), SD3, index)
    many = replace(at, new=new, old=old, next_sample=old.sample(noise), noise=noise)
    return many, (new.mean[0] - old.mean[0]).square().mean() / (2 * new.std[0] ** 2)


def within_errors(samples: Tensor, wanted: float, errors: float = 4) -> bool:
    return abs(float(samples.mean()) - wanted) < errors * float(samples.std()) / math.sqrt(len(samples))


@pytest.mark.parametrize("index", [0, 4, 8])
def test_expected_log_ratio_is_minus_the_bias(index: int) -> None:
    # Equation 7: E[log r] = -||Delta mu||^2 / (2 sigma^2 dt); RatioNorm and Mean-revised have mean 0.
    at, m = resampled(RECIPES["flow_grpo"], index, rows=20_000, width=16, change=0.8)
    assert within_errors(log_r(at.new, at.old, at.next_sample), -float(m))
    assert within_errors(mean_revised(at.new, at.old, at.next_sample), 0)
    assert within_errors(ratio_norm(at.new, at.old, at.next_sample), 0)
    assert not within_errors(log_r(at.new, at.old, at.next_sample), 0)


def test_log_ratio_spread_is_that_of_noise_times_drift() -> None:
    # Var[log r] = <Delta mu^2> / (D std^2) = 2 m / D; RatioNorm's is <Delta mu^2> / D, free of std.
    at, m = resampled(RECIPES["flow_grpo"], 8, rows=20_000, width=16, change=0.8)
    assert float(log_r(at.new, at.old, at.next_sample).std()) == pytest.approx(math.sqrt(2 * m / 16), rel=0.02)
    wanted = float(at.new.std[0]) * math.sqrt(2 * m / 16)
    assert float(ratio_norm(at.new, at.old, at.next_sample).std()) == pytest.approx(wanted, rel=0.02)


def test_ratio_has_mean_one_with_a_sum_over_d_and_less_with_a_mean() -> None:
    # E[exp(D log r)] = 1 for densities; with the mean over D it is exp(-m (1 - 1/D)).
    width = 16
    at, m = resampled(RECIPES["flow_grpo"], 8, rows=60_000, width=width, change=0.3)
    log_ratio = log_r(at.new, at.old, at.next_sample)
    assert within_errors((width * log_ratio).exp(), 1)
    assert within_errors(log_ratio.exp(), math.exp(-float(m) * (1 - 1 / width)))
    assert not within_errors(log_ratio.exp(), 1)


def test_detached_bias_would_leave_the_drift_in_the_gradient() -> None:
    # RatioNorm's gradient in the mean is noise / D; a bias without gradient is off by drift / (D std).
    at = transition(RECIPES["flow_grpo"], SD3, 8)
    wanted = at.noise / 64

    def gradient(log_ratio: Tensor) -> Tensor:
        return torch.autograd.grad(log_ratio.sum(), at.new.mean, retain_graph=True)[0]

    found = gradient(ratio_norm(at.new, at.old, at.next_sample))
    plain = log_r(at.new, at.old, at.next_sample)
    detached = gradient(at.new.std * (plain + bias(at.new, at.old).detach()))
    assert (found - wanted).abs().max() < 1e-15
    off = at.drift / per_row(64 * at.new.std, at.drift)
    torch.testing.assert_close(detached - wanted, off.detach(), rtol=1e-9, atol=1e-15)


def test_log_ratio_is_the_difference_of_log_probabilities() -> None:
    at = transition(RECIPES["flow_grpo"], SD3, torch.tensor([0, 5, 8]))
    difference = at.new.log_prob(at.next_sample) - at.old.log_prob(at.next_sample)
    torch.testing.assert_close(log_r(at.new, at.old, at.next_sample), difference, rtol=1e-10, atol=1e-14)
    rationorm = at.new.std * (difference + bias(at.new, at.old))
    torch.testing.assert_close(ratio_norm(at.new, at.old, at.next_sample), rationorm, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(projection(at.new, at.old, at.next_sample), difference + bias(at.new, at.old))


def test_released_bias_mixes_samples_and_the_per_sample_bias_does_not() -> None:
    # Sample 0 alone and in a batch: only the batch mean of the released form sees the others.
    for name, alike in (("guard_flow_grpo", True), ("guard_flow_grpo_released", False)):
        at = transition(RECIPES[name], SD3, 8)
        together = RECIPES[name].log_ratio(at.new, at.old, at.next_sample)[0]
        new, old = (RECIPES[name].old_step(s.mean[:1], SD3, 8) for s in (at.new, at.old))
        alone = RECIPES[name].log_ratio(new, old, at.next_sample[:1])[0]
        assert torch.isclose(alone, together, rtol=1e-12, atol=0) == alike
    moved = bias(at.new, at.old)
    log_ratio = log_r(at.new, at.old, at.next_sample)
    wanted = at.new.std * (log_ratio + moved.sum() / len(moved))
    torch.testing.assert_close(RECIPES[name].log_ratio(at.new, at.old, at.next_sample), wanted)


def test_released_form_has_the_right_gradient_only_where_advantages_agree() -> None:
    # The batch mean of the bias cancels the drift in the sum over samples, but not in any other weighting.
    for advantage, alike in ((torch.ones(3), True), (torch.tensor([1.0, -1.0, 0.5]), False)):
        at = transition(RECIPES["guard_flow_grpo"], SD3, 8)
        right, released = (
            torch.autograd.grad(
                (advantage * ratio(at.new, at.old, at.next_sample)).sum(), at.new.mean, retain_graph=True
            )[0]
            for ratio in (ratio_norm, ratio_norm_batch)
        )
        assert ((right - released).abs().max() < 1e-15) == alike


def test_projection_rounds_a_thousand_times_less_than_a_difference_of_log_probabilities() -> None:
    at = transition(RECIPES["guard_flow_grpo"], SD3, 8, rows=8, width=4096, change=1e-3)
    recipe, single = RECIPES["guard_flow_grpo"], SD3.float()
    old = recipe.old_step(at.old.mean.float(), single, 8)
    new = recipe.old_step(at.new.mean.float(), single, 8)
    latent = at.next_sample.float()
    wide_old, wide_new = (recipe.old_step(s.mean.double(), single.double(), 8) for s in (old, new))
    exact = ratio_norm(wide_new, wide_old, latent.double())
    difference = new.std * (new.log_prob(latent) - old.log_prob(latent) + bias(new, old))
    error = (ratio_norm(new, old, latent) - exact).abs().max()
    assert error < 1e-10 < 1e-8 < (difference - exact).abs().max()
    assert 1000 * error < (difference - exact).abs().max()


@pytest.mark.parametrize("name", [*RECIPES, *ABLATION])
def test_ratio_is_exactly_one_where_the_policies_agree(name: str) -> None:
    recipe = (RECIPES | ABLATION)[name]
    at = transition(recipe, SD3, torch.tensor([1, 4, 8]), change=0)
    result = loss(recipe, at.new, at.old, at.next_sample, torch.ones(3))
    assert result.log_ratio.tolist() == [0, 0, 0]
