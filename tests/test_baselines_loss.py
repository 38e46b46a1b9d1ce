"""The clipped surrogate (eq. 12) against PPO's definition, and the advantages against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from baselines_inputs import Transition, sd3_times, transition
from torch import Tensor

from baselines import ABLATION, RECIPES, Recipe, loss
from baselines.advantage import Advantage, global_std, group_std, sample_std
from baselines.recipe import clipped

SD3 = sd3_times().double()
FLOW = RECIPES["flow_grpo"]
GUARD = RECIPES["guard_flow_grpo"]


def value_and_gradient(recipe: Recipe, at: Transition, advantage: Tensor) -> tuple[float, Tensor]:
    value = loss(recipe, at.new, at.old, at.next_sample, advantage).value
    return value.item(), torch.autograd.grad(value, at.velocity, retain_graph=True)[0]


def ppo(recipe: Recipe, at: Transition, advantage: Tensor) -> Tensor:
    """mean_b w max(-A r, -A clip(r, 1 - eps, 1 + eps)), written as PPO is."""
    ratio = recipe.log_ratio(at.new, at.old, at.next_sample).exp()
    bounded = advantage.clamp(-5, 5)
    surrogate = torch.maximum(-bounded * ratio, -bounded * ratio.clamp(1 - recipe.clip, 1 + recipe.clip))
    return (recipe.step_weight(at.new) * surrogate).mean()


@pytest.mark.parametrize("name", [*RECIPES, *ABLATION])
@pytest.mark.parametrize("change", [1e-4, 0.1])
def test_loss_and_its_gradient_are_those_of_ppo(name: str, change: float) -> None:
    recipe = (RECIPES | ABLATION)[name]
    at = transition(recipe, SD3, torch.arange(9), rows=9, change=change)
    advantage = torch.tensor([1, -1, 2, -2, 0.5, -0.5, 7, -7, 0], dtype=torch.float64)
    value, gradient = value_and_gradient(recipe, at, advantage)
    wanted = ppo(recipe, at, advantage)
    assert value == pytest.approx(wanted.item(), rel=1e-10)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, at.velocity)[0], rtol=1e-9, atol=1e-15)


def shifted(recipe: Recipe, log_ratio: float) -> Transition:
    """One transition whose log ratio under `recipe` is about `log_ratio`, in float64."""
    at = transition(recipe, SD3, 8, rows=1, change=1e-9)
    rate = recipe.log_ratio(at.new, at.old, at.next_sample).item() / 1e-9
    return transition(recipe, SD3, 8, rows=1, change=log_ratio / rate)


@pytest.mark.parametrize("recipe", [FLOW, GUARD], ids=["flow", "guard"])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_clip_stops_the_gradient_only_where_the_policy_went_too_far_already(
    recipe: Recipe, side: int, advantage: float
) -> None:
    for distance, beyond in ((0.9, False), (1.1, True)):
        at = shifted(recipe, side * distance * recipe.clip)
        stopped = beyond and side * advantage > 0
        _, gradient = value_and_gradient(recipe, at, torch.tensor([advantage]))
        assert bool(gradient.any()) != stopped


def test_clip_range_is_exact_in_float32() -> None:
    # The numbers above 1 are 1.2e-7 apart in float32: a clip of the ratio itself could not tell these two.
    for advantage, edge in ((1.0, math.log1p(GUARD.clip)), (-1.0, math.log1p(-GUARD.clip))):
        log_ratio = (torch.tensor([1.001, 0.999]) * edge).requires_grad_()
        kept = clipped(log_ratio, torch.full((2,), advantage), GUARD.clip)
        assert torch.autograd.grad(kept.sum(), log_ratio)[0].tolist() == [0, 1]


def test_loss_sends_gradient_through_the_new_step_alone() -> None:
    at = transition(GUARD, SD3, 8)
    mean = at.old.mean.clone().requires_grad_()
    latent = at.next_sample.clone().requires_grad_()
    advantage = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss(GUARD, at.new, replace(at.old, mean=mean), latent, advantage).value.backward()
    assert mean.grad is None and latent.grad is None and advantage.grad is None
    assert at.velocity.grad is not None and bool(at.velocity.grad.any())


def test_guard_weighs_each_row_by_its_own_dt() -> None:
    # Unmoved policy, A = 1: each row contributes -1/dt.
    at = transition(GUARD, SD3, torch.tensor([0, 4, 8]), change=0)
    value, _ = value_and_gradient(GUARD, at, torch.ones(3))
    steps = [float(SD3[i] - SD3[i + 1]) for i in (0, 4, 8)]
    assert value == pytest.approx(-sum(1 / dt for dt in steps) / 3)


def test_advantages_beyond_five_count_as_five() -> None:
    at = transition(FLOW, SD3, 8, change=0)
    assert value_and_gradient(FLOW, at, torch.full((3,), 9.0))[0] == pytest.approx(-5)
    assert value_and_gradient(FLOW, at, torch.full((3,), -9.0))[0] == pytest.approx(5)


def test_shapes_that_would_broadcast_and_foreign_steps_are_refused() -> None:
    at, other = transition(FLOW, SD3, 8), transition(FLOW, SD3, 5)
    with pytest.raises(ValueError, match=r"advantage be \(B,\)"):
        loss(FLOW, at.new, at.old, at.next_sample, torch.ones(3, 1))
    with pytest.raises(ValueError, match="must share"):
        loss(FLOW, at.new, at.old, at.next_sample[:1], torch.ones(3))
    with pytest.raises(ValueError, match="same step"):
        loss(FLOW, at.new, other.old, at.next_sample, torch.ones(3))


@pytest.mark.parametrize("advantage", [group_std, sample_std])
def test_advantage_of_each_group_has_mean_zero_and_is_blind_to_shift_and_scale(advantage: Advantage) -> None:
    rewards = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = advantage(rewards)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 3, 4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(advantage(100 * rewards - 7), found, rtol=2e-3, atol=0)
    torch.testing.assert_close(advantage(rewards[1, 2, 3]), found[1, 2, 3])


@pytest.mark.parametrize(("advantage", "correction"), [(group_std, 0), (sample_std, 1)])
def test_advantage_of_each_group_has_unit_std(advantage: Advantage, correction: int) -> None:
    found = advantage(torch.tensor([[0.0, 100.0, 300.0], [50.0, 60.0, 10.0]], dtype=torch.float64))
    assert found.std(-1, correction=correction).tolist() == pytest.approx([1, 1], rel=1e-5)


@pytest.mark.parametrize("advantage", [group_std, sample_std, global_std])
def test_equal_rewards_give_exactly_no_advantage(advantage: Advantage) -> None:
    # In float32 the mean of seven times 0.1 is not 0.1, and DanceGRPO's epsilon is smaller than the miss.
    assert not advantage(torch.full((2, 7), 0.1)).any()


def test_rewards_that_are_missing_are_refused_and_lone_members_have_no_sample_std() -> None:
    with pytest.raises(ValueError, match="missing score"):
        group_std(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match="groups of two or more"):
        sample_std(torch.ones(3, 1))
    assert group_std(torch.ones(3, 1)).tolist() == [[0], [0], [0]]
