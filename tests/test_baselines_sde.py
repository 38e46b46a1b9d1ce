"""The SDE kernel against a second derivation, its limits, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from baselines_inputs import dance_times, sd3_times, transition
from torch import Tensor

from baselines import RECIPES
from baselines.sde import dance_sde, ode_step

SD3 = sd3_times().double()


def random_latents(rows: int = 3) -> Tensor:
    """Sample and velocity, (2, rows, 4, 2, 2) float64."""
    return torch.randn(2, rows, 4, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("name", ["flow_grpo", "dance_grpo"])
def test_mean_is_the_ode_step_plus_a_score_correction(name: str) -> None:
    # Anderson: x - dx with dx = (v - sigma^2 score / 2) dt, and for this flow score = -(x + (1 - t) v) / t.
    x, v = random_latents()
    index = torch.tensor([0, 4, 8])
    step = RECIPES[name].step(x, v, SD3, index)
    t, dt, sigma = (value.view(3, 1, 1, 1) for value in (step.time, step.dt, step.sigma))
    score = -(x + (1 - t) * v) / t
    torch.testing.assert_close(step.mean, x - v * dt + sigma**2 / 2 * score * dt, rtol=1e-12, atol=1e-14)


def test_flow_sde_with_constant_sigma_is_the_dance_kernel() -> None:
    x, v = random_latents()
    times = dance_times().double()
    same = replace(RECIPES["flow_grpo"], sde=dance_sde, noise_level=0.3).step(x, v, times, 8)
    dance = RECIPES["dance_grpo"].step(x, v, times, 8)
    assert torch.equal(same.mean, dance.mean) and torch.equal(same.std, dance.std)
    assert dance.std.tolist() == pytest.approx([0.3 * float(times[8] - times[9]) ** 0.5] * 3)


def test_kernel_tends_to_the_ode_step_without_noise() -> None:
    x, v = random_latents()
    step = replace(RECIPES["flow_grpo"], noise_level=1e-9).step(x, v, SD3, 5)
    torch.testing.assert_close(step.mean, ode_step(x, v, SD3, 5), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ode_step(x, v, SD3, 5), x - v * (SD3[5] - SD3[6]))


def test_transition_keeps_the_marginal_variance_to_second_order_in_dt() -> None:
    # All data at 0: x_t = t n, v = n. Then Var[x'] = mean(0.6, 1)^2 + std^2 is (0.6 - dt)^2 up to O(dt^2).
    def error(dt: float) -> float:
        times = torch.tensor([0.6, 0.6 - dt, 0.0], dtype=torch.float64)
        one = torch.ones(1, 1, dtype=torch.float64)
        step = RECIPES["flow_grpo"].step(0.6 * one, one, times, 0)
        return float(step.mean) ** 2 + float(step.std) ** 2 - (0.6 - dt) ** 2

    assert error(1e-2) / error(1e-3) == pytest.approx(100, rel=0.02)


def test_log_prob_is_the_mean_of_normal_log_densities() -> None:
    at = transition(RECIPES["flow_grpo"], SD3, torch.tensor([0, 4, 8]))
    normal = torch.distributions.Normal(at.old.mean, at.old.std[:, None])
    torch.testing.assert_close(at.old.log_prob(at.next_sample), normal.log_prob(at.next_sample).mean(1))


def test_log_prob_sends_no_gradient_into_the_latent() -> None:
    at = transition(RECIPES["flow_grpo"], SD3, 4)
    latent = at.next_sample.clone().requires_grad_()
    at.new.log_prob(latent).sum().backward()
    assert latent.grad is None and at.velocity.grad is not None


def test_a_row_has_the_same_transition_alone_and_beside_other_times() -> None:
    x, v = random_latents()
    together = RECIPES["flow_grpo"].step(x, v, SD3, torch.tensor([0, 4, 8]))
    for row, index in enumerate((0, 4, 8)):
        alone = RECIPES["flow_grpo"].step(x[row : row + 1], v[row : row + 1], SD3, index)
        assert torch.equal(together.mean[row], alone.mean[0])
        assert together.log_prob(x)[row] == alone.log_prob(x[row : row + 1])[0]


def test_old_step_rebuilds_the_step_from_its_mean() -> None:
    x, v = random_latents()
    step = RECIPES["flow_grpo"].step(x, v, SD3, 5)
    rebuilt = RECIPES["flow_grpo"].old_step(step.mean, SD3, 5)
    assert all(torch.equal(getattr(step, key), getattr(rebuilt, key)) for key in vars(step))


def test_half_precision_inputs_are_computed_in_float32_and_float64_stays() -> None:
    x, v = random_latents()
    half = RECIPES["flow_grpo"].step(x.bfloat16(), v.bfloat16(), SD3, 5)
    wide = RECIPES["flow_grpo"].step(x.bfloat16().float(), v.bfloat16().float(), SD3, 5)
    assert half.mean.dtype == half.std.dtype == torch.float32
    assert torch.equal(half.mean, wide.mean)
    assert RECIPES["flow_grpo"].step(x, v, sd3_times(), 5).std.dtype == torch.float64


def test_mean_std_leaves_the_last_step_out() -> None:
    # The last step's std is 0.006: with it the mean of ten would be a tenth smaller.
    x, v = random_latents(9)
    step = RECIPES["flow_grpo"].step(x, v, SD3, torch.arange(9))
    assert step.mean_std.item() == pytest.approx(step.std.mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    "times",
    [[1.0, 0.5, 0.1], [1000.0, 500.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0], [1.0, 0.0]],
)
def test_a_schedule_that_is_not_flow_times_is_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times must fall strictly"):
        RECIPES["flow_grpo"].step(torch.ones(1, 2), torch.ones(1, 2), torch.tensor(times), 0)


@pytest.mark.parametrize("index", [-1, 10, torch.tensor([0, 10, 3])])
def test_a_step_outside_the_schedule_is_refused(index: int | Tensor) -> None:
    x, v = random_latents()
    with pytest.raises(IndexError, match=r"0 \.\.\. 9"):
        RECIPES["flow_grpo"].step(x, v, SD3, index)


@pytest.mark.parametrize("index", [torch.tensor([0, 1]), torch.tensor([[0], [1], [2]]), torch.ones(3)])
def test_an_index_that_would_broadcast_is_refused(index: Tensor) -> None:
    x, v = random_latents()
    with pytest.raises(ValueError, match="LongTensor of shape"):
        RECIPES["flow_grpo"].step(x, v, SD3, index)


def test_shapes_that_would_broadcast_are_refused() -> None:
    x, v = random_latents()
    with pytest.raises(ValueError, match="share one shape"):
        RECIPES["flow_grpo"].step(x, v[:1], SD3, 0)
    with pytest.raises(ValueError, match="shape of mean"):
        RECIPES["flow_grpo"].step(x, v, SD3, 0).log_prob(x[:1])
