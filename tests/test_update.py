"""One optimizer update: its gradient by two ways, its steps apart, its diagnostics from raw numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from bench_runs import settings
from torch import Tensor
from torch.distributions import Normal

import baselines
from bench import diagnostics, epoch, update
from bench.experiments import histogram_edges
from bench.ranks import Ranks
from bench.rollout import Samples
from bench.session import Session, prepare
from bench.update import Penalty, StepRecord

ROWS = ("sd3_flow_text", "sd3_guard_text", "sd3_temp_text", "flux_dance_text", "flux_guard_text")


def sampled(row: str, folder: Path) -> tuple[Session, Samples]:
    session = prepare(settings(row, folder), Ranks())
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    generator = torch.Generator().manual_seed(1)
    samples.advantages = torch.randn(samples.advantages.shape, generator=generator)
    with torch.no_grad():
        for parameter in session.state.parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return session, samples


def gradient_of(session: Session) -> Tensor:
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in session.state.parameters]
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("row", ROWS)
def test_the_gradient_is_that_of_the_mean_loss_over_all_trained_transitions(row: str, tmp_path: Path) -> None:
    session, samples = sampled(row, tmp_path)
    assert session.recipe
    rows, times = torch.tensor([0, 1, 4, 7, 11]), session.policy.times(4)
    update.gradients(session.policy, session.recipe, samples, rows, times, 2, session.ranks)
    by_steps = gradient_of(session)
    losses = []
    for member in rows.tolist():
        for index in samples.mask[member].nonzero().flatten().tolist():
            state = samples.rollout.state[member, index][None]
            cond = samples.conditioning.rows(torch.tensor([samples.members[member].row]))
            new = session.recipe.step(state, session.policy.velocity(state, times[index][None], cond), times, index)
            old = session.recipe.old_step(samples.rollout.mean[member, index][None], times, index)
            following, advantage = samples.rollout.next[member, index][None], samples.advantages[member, index][None]
            losses.append(baselines.loss(session.recipe, new, old, following, advantage).value)
    for p in session.state.parameters:
        p.grad = None
    torch.stack(losses).mean().backward()
    whole = gradient_of(session)
    assert torch.allclose(by_steps, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_each_record_holds_its_own_steps_gradient_norm(tmp_path: Path) -> None:
    session, samples = sampled("sd3_guard_text", tmp_path)
    assert session.recipe
    rows, times = torch.arange(12), session.policy.times(4)
    records = update.gradients(session.policy, session.recipe, samples, rows, times, 6, session.ranks)
    for record in records:
        only = samples.mask.clone()
        only[:, [s for s in range(3) if s != record.step]] = False
        alone = Samples(**{**vars(samples), "mask": only})
        update.gradients(session.policy, session.recipe, alone, rows, times, 6, session.ranks)
        assert gradient_of(session).norm().item() == pytest.approx(record.grad_norm, rel=1e-5)


@pytest.mark.parametrize("row", ["sd3_guard_text", "flux_dance_text"])
def test_steps_that_share_a_forward_give_the_same_gradient_and_ratios(row: str, tmp_path: Path) -> None:
    session, samples = sampled(row, tmp_path)
    assert session.recipe
    found = []
    for stacked in (1, 2, 3):
        at = (session.policy, session.recipe, samples, torch.arange(12), session.policy.times(4), 5, session.ranks)
        found.append((update.gradients(*at, stacked_steps=stacked), gradient_of(session)))
    (apart, wanted), *shared = found
    for records, gradient in shared:
        assert (gradient - wanted).norm() < 5e-6 * wanted.norm()
        for one, other in zip(apart, records, strict=True):
            assert (one.step, one.advantage.tolist()) == (other.step, other.advantage.tolist())
            assert torch.allclose(one.log_ratio, other.log_ratio, rtol=1e-4, atol=1e-7)
            assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert all(math.isfinite(record.grad_norm) for record in apart)
    assert all(math.isnan(record.grad_norm) for record in shared[-1][0])


@pytest.mark.parametrize("unit", ["with_dt", "without_dt"])
def test_the_penalty_pulls_towards_the_policy_without_its_adapter(unit: str, tmp_path: Path) -> None:
    session, samples = sampled("sd3_flow_text", tmp_path)
    assert session.recipe
    policy, recipe, times = session.policy, session.recipe, session.policy.times(4)
    at = (policy, recipe, samples, torch.arange(12), times, 6, session.ranks)
    update.gradients(*at)
    free = gradient_of(session)
    records = update.gradients(*at, penalty=Penalty(0.5, unit))
    pulled = gradient_of(session)
    divergences = []
    for step in range(3):
        state, time = samples.rollout.state[:, step], times[step].expand(12)
        conditioning = samples.conditioning.rows(torch.tensor([m.row for m in samples.members]))
        new = recipe.step(state, policy.velocity(state, time, conditioning), times, step)
        with policy.reference(), torch.no_grad():
            base = recipe.step(state, policy.velocity(state, time, conditioning), times, step)
        scale = new.std.view(-1, 1, 1, 1)
        gaussian = torch.distributions.kl_divergence(Normal(new.mean, scale), Normal(base.mean, scale))
        divergences.append(gaussian.flatten(1).mean(1) * (1 if unit == "with_dt" else new.dt))
        assert records[step].kl == pytest.approx(divergences[-1].mean().item(), rel=1e-4)
    for p in session.state.parameters:
        p.grad = None
    torch.stack(divergences).mean().backward()
    assert (pulled - free - 0.5 * gradient_of(session)).norm() < 1e-4 * (pulled - free).norm()


def test_without_its_adapter_a_policy_is_the_one_before_training(tmp_path: Path) -> None:
    session, samples = sampled("sd3_flow_text", tmp_path)
    fresh = prepare(settings("sd3_flow_text", tmp_path), Ranks())
    at = (samples.rollout.state[:2, 0], torch.ones(2), samples.conditioning.rows(torch.tensor([0, 0])))
    with torch.no_grad(), session.policy.reference():
        assert torch.equal(session.policy.velocity(*at), fresh.policy.velocity(*at))
    with torch.no_grad():
        assert not torch.equal(session.policy.velocity(*at), fresh.policy.velocity(*at))
    assert all(p.requires_grad for p in session.state.parameters)


def test_dance_trains_a_random_part_of_each_members_steps(tmp_path: Path) -> None:
    _, samples = sampled("flux_dance_text", tmp_path)
    assert samples.mask.sum(1).tolist() == [int(3 * 0.6)] * 12
    assert len({tuple(row) for row in samples.mask.tolist()}) > 1


def test_the_first_update_of_every_method_is_on_policy(tmp_path: Path) -> None:
    for row in ROWS:
        session = prepare(settings(row, tmp_path), Ranks())
        assert session.recipe and session.proxy
        samples = epoch.sample_epoch(session, session.recipe, session.proxy)
        times = session.policy.times(4)
        records = update.gradients(session.policy, session.recipe, samples, torch.arange(12), times, 6, session.ranks)
        update.check_on_policy(records, session.recipe)


def test_the_gate_sees_what_is_not_a_number() -> None:
    recipe, good = baselines.RECIPES["flow_grpo"], StepRecord(0, torch.zeros(2), torch.ones(2), 0.0, 0.0)
    for bad in (math.nan, math.inf, recipe.clip):
        with pytest.raises(update.GateError, match="at step 1"):
            update.check_on_policy([good, record([0.0, bad], [1.0, 1.0])], recipe)


def record(log_ratio: list[float], advantage: list[float]) -> StepRecord:
    return StepRecord(1, torch.tensor(log_ratio), torch.tensor(advantage), 0.5, 2.0)


def test_diagnostics_count_clipping_by_side_and_sign() -> None:
    recipe, times = baselines.RECIPES["flow_grpo"], torch.tensor([1.0, 0.7, 0.4, 0.0])
    clip = recipe.clip
    log_ratio = [2 * clip, -2 * clip, 0.5 * clip, 3 * clip, -3 * clip, 0.0]
    lines = diagnostics.describe([record(log_ratio, [1.0, 1.0, 1.0, -1.0, -1.0, 0.0])], recipe, times)
    assert (lines["clip_high_positive"], lines["clip_low_positive"]) == ([1], [1])
    assert (lines["clip_high_negative"], lines["clip_low_negative"]) == ([1], [1])
    assert (lines["count"], lines["count_positive"], lines["count_negative"]) == ([6], [3], [2])
    assert lines["std"][0] == pytest.approx(0.7 * math.sqrt(0.7 / 0.3) * math.sqrt(0.3), rel=1e-6)
    assert diagnostics.summary([record(log_ratio, [0.0] * 6)], lines)["clip/share"] == pytest.approx(4 / 6)


def test_diagnostics_tell_the_true_ratio_beside_the_mean_reduced_one() -> None:
    recipe, times = baselines.RECIPES["guard_flow_grpo"], torch.tensor([1.0, 0.7, 0.4, 0.0])
    normalized, plain = torch.zeros(3), torch.tensor([0.02, -0.01, 0.005])
    found = StepRecord(1, normalized, torch.ones(3), 0.5, 2.0, plain=plain, elements=50)
    lines = diagnostics.describe([found], recipe, times)
    ratios = [math.exp(1.0), math.exp(-0.5), math.exp(0.25)]
    assert lines["log_ratio_mean"] == [0.0]
    assert lines["raw_log_ratio_mean"] == pytest.approx([0.005])
    assert lines["sum_ratio_mean"] == pytest.approx([sum(ratios) / 3])
    assert lines["sum_ratio_std"] == pytest.approx([torch.tensor(ratios).std().item()])


@pytest.mark.parametrize("row", ["sd3_flow_text", "sd3_guard_text"])
def test_the_plain_log_ratio_is_that_of_the_densities_whatever_the_recipe_clips(row: str, tmp_path: Path) -> None:
    session, samples = sampled(row, tmp_path)
    assert session.recipe
    at = (session.policy, session.recipe, samples, torch.arange(12), session.policy.times(4), 6, session.ranks)
    for record in update.gradients(*at):
        rollout, times = samples.rollout, session.policy.times(4)
        cond = samples.conditioning.rows(torch.tensor([m.row for m in samples.members]))
        state, following = rollout.state[:, record.step], rollout.next[:, record.step]
        with torch.no_grad():
            velocity = session.policy.velocity(state, times[record.step].expand(12), cond)
        new = session.recipe.step(state, velocity, times, record.step)
        old = session.recipe.old_step(rollout.mean[:, record.step], times, record.step)
        wanted = new.log_prob(following) - old.log_prob(following)
        assert record.elements == state[0].numel()
        assert torch.allclose(record.plain, wanted, rtol=1e-2, atol=2e-7)


def test_histogram_holds_every_transition_in_its_bin() -> None:
    edges = histogram_edges()
    values = [-5.0, -3e-4, -2e-8, 0.0, 2e-8, 7e-6, 0.1, 5.0]
    recipe, times = baselines.RECIPES["flow_grpo"], torch.tensor([1.0, 0.7, 0.4, 0.0])
    lines = diagnostics.describe([record(values, [1.0] * 8)], recipe, times)
    bins = [b for b, count in lines["histogram_positive"][0] for _ in range(count)]
    assert lines["histogram_negative"] == [[]]
    assert len(bins) == 8
    for value, where in zip(values, bins, strict=True):
        inside = min(max(value, edges[0]), edges[-1])
        assert edges[where] - 1e-12 <= inside <= edges[where + 1] + 1e-12
