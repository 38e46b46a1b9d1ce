"""The recipes against values of the official functions (data/official_values.json)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from baselines_inputs import ADVANTAGES, OFFICIAL, dance_times, official_tensor, sd3_times
from torch import Tensor

from baselines import RECIPES, Step, dance_grpo, loss
from baselines.advantage import global_std
from baselines.recipe import Recipe
from baselines.sde import ode_step, x0_prediction
from baselines.terms import projection

FLOW = OFFICIAL["flow_sde"]
DANCE = OFFICIAL["dance"]
flow_records = pytest.mark.parametrize("record", FLOW, ids=[f"step{r['step']}" for r in FLOW])
dance_records = pytest.mark.parametrize("record", DANCE, ids=[f"step{r['step']}" for r in DANCE])


def steps(recipe: Recipe, times: Tensor, index: int) -> tuple[Step, Step, Tensor]:
    """New step, old step and the sampled latent of the official inputs."""
    x = official_tensor("x")
    old = recipe.step(x, official_tensor("v_old"), times, index)
    return recipe.step(x, official_tensor("v_new"), times, index), old, old.sample(official_tensor("eps"))


def official_loss(recipe: Recipe, times: Tensor, index: int) -> tuple[float, Tensor]:
    result = loss(recipe, *steps(recipe, times, index), ADVANTAGES)
    return float(result.value), result.log_ratio.exp()


def close(found: Tensor, wanted: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(found.flatten(), torch.tensor(wanted).to(found), rtol=rtol, atol=atol)


def test_closed_form_schedules_are_the_schedulers() -> None:
    close(sd3_times(), OFFICIAL["sd3_sigmas_10"], atol=7e-8)
    close(dance_times(), OFFICIAL["dance_sigmas_16"], atol=7e-8)
    close(dance_grpo.dance_times(16), OFFICIAL["dance_sigmas_16"], atol=7e-8)


@flow_records
def test_flow_sigma_is_exact(record: dict[str, Any]) -> None:
    times = torch.tensor(OFFICIAL["sd3_sigmas_10"])
    _, old, _ = steps(RECIPES["flow_grpo"], times, record["step"])
    # The file prints times to nine digits, float32's round trip, so equality is to the last bit.
    assert old.time[0].item() == torch.tensor(record["sigma"]).item()
    assert old.sigma.tolist() == torch.tensor(record["std_dev_t"]).expand(3).tolist()
    assert old.dt.sqrt()[0].item() == torch.tensor(record["sqrt_dt"]).item()


@flow_records
def test_flow_mean_sample_and_log_prob(record: dict[str, Any]) -> None:
    new, old, next_sample = steps(RECIPES["flow_grpo"], sd3_times(), record["step"])
    close(old.mean, record["mean_old"], rtol=1e-5, atol=3e-7)
    close(next_sample, record["x_next"], rtol=1e-5, atol=1e-6)
    close(old.log_prob(next_sample), record["logp_old"], rtol=1e-5)
    close(new.log_prob(next_sample), record["logp_new"], rtol=1e-5)


@flow_records
@pytest.mark.parametrize(
    ("name", "ratio", "value"),
    [
        ("flow_grpo", "ratio_flowgrpo", "loss_flowgrpo_clip1e4"),
        ("guard_flow_grpo", "ratio_guard_persample", "loss_guard_persample_clip2e6"),
        ("guard_flow_grpo_released", "ratio_guard_published", "loss_guard_published_clip2e6"),
    ],
)
def test_ratio_and_loss_on_the_flow_sde(record: dict[str, Any], name: str, ratio: str, value: str) -> None:
    found, ratios = official_loss(RECIPES[name], sd3_times(), record["step"])
    close(ratios, record[ratio], atol=1e-6)
    assert found == pytest.approx(record[value], rel=1e-4)


@flow_records
def test_tempflow_loss_with_the_released_constant(record: dict[str, Any]) -> None:
    recipe = replace(RECIPES["temp_flow_grpo"], step_weight=lambda step: 2.25 * step.std)
    found, _ = official_loss(recipe, sd3_times(), record["step"])
    assert found == pytest.approx(record["loss_tempflow_w2p25"], rel=1e-4)


@pytest.mark.parametrize(
    ("times", "noise_level", "constant"),
    [(OFFICIAL["sd3_sigmas_10"], 0.7, 2.252), (OFFICIAL["flux_sigmas_seq4096_n10"]["sigmas"], 0.9, 1.726)],
)
def test_tempflow_weight_normalises_by_the_schedule(times: list[float], noise_level: float, constant: float) -> None:
    # TempFlow-GRPO writes 2.25 (SD3) and 1.73 (Flux, 1024 px); its author confirms 1 / mean(std).
    recipe = replace(RECIPES["temp_flow_grpo"], noise_level=noise_level)
    step = recipe.step(torch.ones(9, 2), torch.ones(9, 2), torch.tensor(times), torch.arange(9))
    assert 1 / step.mean_std.item() == pytest.approx(constant, abs=5e-4)
    assert recipe.step_weight(step).mean().item() == pytest.approx(1, rel=1e-6)


@flow_records
def test_ratio_norm_is_the_identity_of_noise_and_drift(record: dict[str, Any]) -> None:
    log_ratio = RECIPES["guard_flow_grpo"].log_ratio(*steps(RECIPES["flow_grpo"], sd3_times(), record["step"]))
    close(log_ratio, record["log_rhat_identity"], atol=5e-8)


@flow_records
def test_bias_per_sample(record: dict[str, Any]) -> None:
    new, old, next_sample = steps(RECIPES["flow_grpo"], sd3_times(), record["step"])
    log_r = RECIPES["flow_grpo"].log_ratio(new, old, next_sample)
    close(projection(new, old, next_sample) - log_r, record["bias_persample"], rtol=2e-3, atol=2e-9)


@dance_records
def test_dance_mean_log_prob_ratio_and_x0(record: dict[str, Any]) -> None:
    recipe, times, index = RECIPES["dance_grpo"], dance_times(), record["step"]
    new, old, next_sample = steps(recipe, times, index)
    close(old.std, [record["s"]] * 3, rtol=1e-6)
    close(old.mean, record["mean"], rtol=1e-5, atol=3e-7)
    close(old.log_prob(next_sample), record["logp_old"], rtol=1e-5)
    close(new.log_prob(next_sample), record["logp_new"], rtol=1e-5)
    close(recipe.log_ratio(new, old, next_sample).exp(), record["ratio"], atol=1e-6)
    x0 = x0_prediction(official_tensor("x"), official_tensor("v_old"), times, index)
    close(x0, record["x0"], rtol=1e-5, atol=3e-7)


def test_x0_prediction_is_the_ode_step_to_time_zero() -> None:
    x, v = official_tensor("x"), official_tensor("v_old")
    assert torch.equal(x0_prediction(x, v, sd3_times(), 9), ode_step(x, v, sd3_times(), 9))


def grouped_advantages(advantage: Any) -> list[float]:
    """Advantages of prompts a, b, a, c, b, a with rewards 1 ... 6, in that order."""
    groups = {"a": [0, 2, 5], "b": [1, 4], "c": [3]}
    found = [0.0] * 6
    for members in groups.values():
        values = advantage(torch.tensor([[float(m + 1) for m in members]], dtype=torch.float64))
        for member, value in zip(members, values[0].tolist(), strict=True):
            found[member] = value
    return found


def test_flow_advantages_by_group_std() -> None:
    found = grouped_advantages(RECIPES["flow_grpo"].advantage)
    assert found == pytest.approx(OFFICIAL["adv_flowgrpo_globalstd_False"], abs=1e-6)


def test_flow_advantages_by_global_std() -> None:
    # Equal groups only, so that one tensor holds them: rewards 1, 3 and 2, 8 have means 2 and 5, and
    # the four together mean 3.5 and population std sqrt((6.25 + 0.25 + 2.25 + 20.25) / 4) = sqrt(7.25).
    found = global_std(torch.tensor([[1.0, 3.0], [2.0, 8.0]]))
    scale = 7.25**0.5 + 1e-4
    close(found, [-1 / scale, 1 / scale, -3 / scale, 3 / scale], atol=1e-6)


def test_dance_advantages() -> None:
    found = RECIPES["dance_grpo"].advantage(torch.tensor([[1.0, 3.0, 6.0]]))
    close(found, OFFICIAL["adv_dance_[1,3,6]"], atol=1e-6)
