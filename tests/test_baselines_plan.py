"""Plans: which noise is drawn where, what a trajectory is made of and costs, how rewards find their steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from baselines_inputs import dance_times, sd3_times
from torch import Tensor

from baselines import RECIPES, Recipe
from baselines.plan import Rollout, own_noise
from baselines.sde import ode_step, x0_prediction

SD3 = sd3_times().double()
FLOW, DANCE, TEMP = (RECIPES[name] for name in ("flow_grpo", "dance_grpo", "temp_flow_grpo"))


@dataclass
class World:
    """A velocity field that depends on latent, step and member, noise by coordinates, and a log of both."""

    members: int
    calls: list[tuple[int, int]] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)

    def velocity(self, latents: Tensor, index: int, members: Tensor) -> Tensor:
        self.calls.append((index, len(latents)))
        assert members.shape == latents.shape[:1]
        return torch.tanh(latents) * (1 + 0.1 * index) + 0.01 * members.view(-1, 1)

    def noise(self, index: int) -> Tensor:
        self.draws.append(index)
        return self.normal(1 + index)

    def normal(self, seed: int) -> Tensor:
        return torch.randn(self.members, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def rollout(self, recipe: Recipe, times: Tensor) -> Rollout:
        own = self.normal(0)
        initial = own[[recipe.plan.initial_member(member) for member in range(self.members)]]
        return recipe.plan.rollout(recipe, self.velocity, times, initial, self.noise)


def test_initial_noise_is_own_shared_by_the_group_or_shared_by_the_trunk() -> None:
    assert [FLOW.plan.initial_member(m) for m in range(14)] == list(range(14))
    assert [DANCE.plan.initial_member(m) for m in range(14)] == [0] * 14
    assert [TEMP.plan.initial_member(m) for m in range(14)] == [0] * 6 + [6] * 6 + [12] * 2


def test_chain_samples_every_step_and_decodes_the_noisy_last_one() -> None:
    world = World(4)
    rollout = world.rollout(FLOW, SD3)
    assert world.draws == list(range(10)) and world.calls == [(i, 4) for i in range(10)]
    sample = world.normal(0)
    for index in range(10):
        step = FLOW.step(sample, world.velocity(sample, index, torch.arange(4)), SD3, index)
        if index < 9:
            assert torch.equal(rollout.state[:, index], sample)
            assert torch.equal(rollout.mean[:, index], step.mean)
        sample = step.mean + step.std[:, None] * world.normal(1 + index)
        if index < 9:
            assert torch.equal(rollout.next[:, index], sample)
    assert torch.equal(rollout.final[:, 0], sample)


def test_dance_decodes_the_x0_prediction_and_draws_no_noise_for_its_last_step() -> None:
    world, times = World(4), dance_times().double()
    rollout = world.rollout(DANCE, times)
    assert world.draws == list(range(15))
    last = rollout.next[:, -1]
    wanted = x0_prediction(last, world.velocity(last, 15, torch.arange(4)), times, 15)
    assert torch.equal(rollout.final[:, 0], wanted)
    assert rollout.state.shape == rollout.next.shape == rollout.mean.shape == (4, 15, 5)


def test_trunk_is_the_ode_from_the_shared_noise_and_equal_in_all_its_branches() -> None:
    world = World(12)
    rollout = world.rollout(TEMP, SD3)
    assert world.draws == list(range(9))
    trunk, heads = world.normal(0)[[0, 6]], torch.tensor([0, 6])
    for index in range(9):
        assert torch.equal(rollout.state[:, index], trunk.repeat_interleave(6, 0))
        velocity = world.velocity(trunk, index, heads)
        step = TEMP.step(trunk, velocity, SD3, index)
        mean = step.mean.repeat_interleave(6, 0)
        assert torch.equal(rollout.mean[:, index], mean)
        assert torch.equal(rollout.next[:, index], mean + float(step.std[0]) * world.normal(1 + index))
        trunk = ode_step(trunk, velocity, SD3, index)


def test_branches_are_finished_by_the_ode_each_with_its_own_member() -> None:
    world = World(12)
    rollout = world.rollout(TEMP, SD3)
    for start in range(9):
        sample = rollout.next[:, start]
        for index in range(start + 1, 10):
            velocity = world.velocity(sample, index, torch.arange(12))
            sample = sample - (SD3[index] - SD3[index + 1]) * velocity
        torch.testing.assert_close(rollout.final[:, start], sample, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("recipe", "forwards", "images"), [(FLOW, 10, 1), (DANCE, 10, 1), (TEMP, 279 / 6, 9)])
def test_cost_is_what_a_rollout_spends(recipe: Recipe, forwards: float, images: int) -> None:
    world = World(12)
    rollout = world.rollout(recipe, SD3)
    cost = recipe.plan.cost(10)
    assert cost.forwards == forwards == sum(rows for _, rows in world.calls) / 12
    assert cost.images == images == rollout.final.shape[1]


@pytest.mark.parametrize("recipe", [FLOW, DANCE, TEMP])
def test_recorded_transitions_have_ratio_one_when_replayed(recipe: Recipe) -> None:
    world = World(12)
    rollout = world.rollout(recipe, SD3)
    for index in range(9):
        state = rollout.state[:, index]
        heads = torch.tensor([recipe.plan.branches * (m // recipe.plan.branches) for m in range(12)])
        new = recipe.step(state, world.velocity(state, index, heads), SD3, index)
        old = recipe.old_step(rollout.mean[:, index], SD3, index)
        assert recipe.log_ratio(new, old, rollout.next[:, index]).abs().max() < 1e-14


def test_methods_on_one_seed_draw_the_same_noise() -> None:
    worlds = [World(6), World(6)]
    flow, temp = (world.rollout(recipe, SD3) for world, recipe in zip(worlds, (FLOW, TEMP), strict=True))
    std = FLOW.step(flow.state[:, 0], flow.state[:, 0], SD3, 0).std[:, None]
    first, other = ((r.next - r.mean)[:, 0] / std for r in (flow, temp))
    torch.testing.assert_close(first, other, rtol=1e-12, atol=1e-13)


def test_rollout_carries_no_gradient() -> None:
    weight = torch.ones(5, dtype=torch.float64, requires_grad=True)
    for recipe in (FLOW, TEMP):
        rollout = recipe.plan.rollout(
            recipe, lambda x, i, m: weight * x, SD3, torch.ones(6, 5).double(), World(6).noise
        )
        assert not any(tensor.requires_grad for tensor in vars(rollout).values())


def test_micro_batches_sample_what_the_whole_batch_samples() -> None:
    world = World(12)
    for recipe in (FLOW, DANCE, TEMP):
        whole = world.rollout(recipe, SD3)
        initial = world.normal(0)[[recipe.plan.initial_member(m) for m in range(12)]][6:]
        part = recipe.plan.rollout(
            recipe,
            lambda x, i, members: world.velocity(x, i, members + 6),
            SD3,
            initial,
            lambda index: world.normal(1 + index)[6:],
        )
        torch.testing.assert_close(part.final, whole.final[6:])


def test_dance_trains_nine_of_fifteen_steps_each_as_often_as_another() -> None:
    uniform = torch.rand(20_000, 15, generator=torch.Generator().manual_seed(0))
    mask = DANCE.plan.mask(uniform)
    assert set(mask.sum(1).tolist()) == {9}
    # Standard error of a frequency of 0.6 in 20,000 is 0.0035.
    assert (mask.double().mean(0) - 0.6).abs().max() < 5 * 0.0035
    assert (uniform.masked_fill(~mask, 0).amax(1) < uniform.masked_fill(mask, 2).amin(1)).all()


def test_other_methods_train_every_candidate_step() -> None:
    uniform = torch.rand(8, 9, generator=torch.Generator().manual_seed(0))
    assert FLOW.plan.mask(uniform).all() and TEMP.plan.mask(uniform).all()


def test_a_chain_gives_its_one_reward_to_every_step() -> None:
    rewards = torch.arange(8.0).reshape(2, 4, 1)
    arranged = FLOW.plan.arrange(rewards)
    assert torch.equal(arranged, rewards[..., 0])
    assert torch.equal(FLOW.plan.spread(arranged, 9), rewards.expand(2, 4, 9))


def test_a_branch_reward_stays_with_its_member_and_step() -> None:
    rewards = torch.arange(2 * 12 * 9.0).reshape(2, 12, 9)
    arranged = TEMP.plan.arrange(rewards)
    assert arranged.shape == (2, 2, 9, 6)
    assert arranged[1, 1, 4, 3] == rewards[1, 9, 4]
    assert torch.equal(TEMP.plan.spread(arranged, 9), rewards)


def test_branch_advantages_compare_the_branches_of_one_trunk_at_one_step() -> None:
    # Rewards that depend on trunk and step alone leave nothing to prefer.
    by_trunk_and_step = torch.rand(2, 2, 1, 9).expand(2, 2, 6, 9).reshape(2, 12, 9)
    advantages = TEMP.plan.spread(TEMP.advantage(TEMP.plan.arrange(by_trunk_and_step)), 9)
    assert not advantages.any()


def test_plans_refuse_what_would_mislabel_rewards_or_noise() -> None:
    with pytest.raises(ValueError, match="one initial noise"):
        replace(TEMP.plan, initial=own_noise)
    with pytest.raises(ValueError, match="use Branch"):
        replace(DANCE.plan, branches=2)
    with pytest.raises(ValueError, match="trained_fraction"):
        replace(FLOW.plan, trained_fraction=0.0)
    with pytest.raises(ValueError, match="trains none"):
        DANCE.plan.mask(torch.rand(2, 1))
    with pytest.raises(ValueError, match="whole trunks of 6"):
        World(9).rollout(TEMP, SD3)
    with pytest.raises(ValueError, match="whole trunks of 6"):
        TEMP.plan.rollout(TEMP, World(6).velocity, SD3, World(6).normal(0), World(6).noise)
    with pytest.raises(ValueError, match=r"\(P, G, 1\)"):
        FLOW.plan.arrange(torch.ones(2, 4, 9))
    with pytest.raises(ValueError, match="multiple of 6"):
        TEMP.plan.arrange(torch.ones(2, 4, 9))
    with pytest.raises(ValueError, match="advantages"):
        TEMP.plan.spread(torch.ones(2, 12), 9)
