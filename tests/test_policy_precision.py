"""Guidance, checkpointing and half precision: gradients as by hand, ratios of 1 at equal batch shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_runs import settings
from torch import Tensor

from bench import config, epoch, update
from bench.flux import FluxPolicy
from bench.policy import Conditioning, Policy, load
from bench.ranks import Ranks
from bench.rollout import Samples
from bench.sd3 import SD3Policy
from bench.session import Session, prepare
from bench.update import GateError, StepRecord

WEIGHTS = Path(config.__file__).parent / "tiny/weights"
PROMPTS = ["a red circle left of a blue square", 'the text "K7"']
BACKBONES = ("sd3", "flux")


def policy_of(backbone: str, guidance: float, **options: Any) -> Policy:
    return load(str(WEIGHTS / backbone), 32, 10, guidance, **options)


def trainable(policy: Policy) -> list[Tensor]:
    """A small adapter away from its start, where its second factor is 0."""
    _, parameters = policy.add_lora(4, 8, ["attn.to_q", "attn.to_v"], 0)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return parameters


def inputs(policy: Policy) -> tuple[Tensor, Tensor, Conditioning]:
    latents = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    return latents, torch.tensor([0.7, 0.3]), policy.encode(PROMPTS)


def gradient(policy: Policy, parameters: list[Tensor], scale: float = 0.01) -> Tensor:
    """Of a loss that weighs every element of the velocity differently, joined and divided by its `scale`."""
    weights = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    (scale * weights * policy.velocity(*inputs(policy))).mean().backward()
    joined = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]) / scale
    for p in parameters:
        p.grad = None
    return joined


@pytest.mark.parametrize("cfg_detach", [False, True])
def test_the_unconditional_half_carries_gradient_unless_it_is_detached(cfg_detach: bool) -> None:
    policy = policy_of("sd3", 4.5, cfg_detach=cfg_detach)
    parameters = trainable(policy)
    found = gradient(policy, parameters)
    # By hand: v = u + 4.5 (c - u), so dv = 4.5 dc - 3.5 du, and without du where it is detached.
    policy.guidance = 1.0
    latents, time, conditioning = inputs(policy)
    weights = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    shares = []
    for half in (conditioning, policy.encode(["", ""])):
        value = (weights * policy.velocity(latents, time, half)).mean()
        shares.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)]))
    expected = 4.5 * shares[0] - (0 if cfg_detach else 3.5) * shares[1]
    assert shares[1].norm() > 0.1 * shares[0].norm()
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_detaching_moves_no_velocity() -> None:
    one, other = (policy_of("sd3", 4.5, cfg_detach=detach) for detach in (False, True))
    with torch.no_grad():
        joint, apart = one.velocity(*inputs(one)), other.velocity(*inputs(other))
    assert (joint - apart).norm() < 1e-5 * joint.norm()


@pytest.mark.parametrize(("backbone", "guidance"), [("sd3", 4.5), ("flux", 3.5)])
def test_checkpointing_keeps_the_gradient_and_computes_every_block_twice(backbone: str, guidance: float) -> None:
    found, forwards = [], []
    for checkpointing in (False, True):
        policy, calls = policy_of(backbone, guidance, checkpointing=checkpointing), list[int]()
        policy.transformer.transformer_blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        found.append(gradient(policy, trainable(policy)))
        forwards.append(len(calls))
    assert forwards == [1, 2]
    assert (found[0] - found[1]).norm() <= 1e-6 * found[0].norm()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_only_what_is_frozen_is_half(backbone: str, dtype: str) -> None:
    policy = policy_of(backbone, 3.5, dtype=dtype)
    parameters = trainable(policy)
    half = getattr(torch, dtype)
    assert {p.dtype for p in policy.transformer.parameters() if not p.requires_grad} == {half}
    assert {p.dtype for p in parameters} == {p.dtype for p in policy.pipe.vae.parameters()} == {torch.float32}
    assert policy.encode(PROMPTS).tokens.dtype == half
    assert policy.velocity(*inputs(policy)).dtype == torch.float32
    exact = policy_of(backbone, 3.5)
    wanted = gradient(exact, trainable(exact))
    assert (gradient(policy, parameters) - wanted).norm() < 0.05 * wanted.norm()  # 8 bits of mantissa, a few layers


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_float16_gradient_does_not_vanish_with_the_size_of_the_loss(backbone: str) -> None:
    policy = policy_of(backbone, 3.5, dtype="float16")
    parameters = trainable(policy)
    wanted, small = gradient(policy, parameters), gradient(policy, parameters, scale=1e-4)
    assert (small - wanted).norm() < 0.02 * wanted.norm()
    policy.gradient_scale = 1.0  # both hooks read it
    assert not (gradient(policy, parameters, scale=1e-4) - wanted).norm() < 0.02 * wanted.norm()


def first_update(session: Session, samples: Samples, micro_batch: int) -> list[StepRecord]:
    assert session.recipe
    rows, times = torch.tensor([0, 2, 3, 7, 8, 11]), session.policy.times(4)
    return update.gradients(session.policy, session.recipe, samples, rows, times, micro_batch, session.ranks)


def sampled(row: str, tmp_path: Path, *overrides: str) -> tuple[Session, Samples]:
    session = prepare(settings(row, tmp_path, *overrides), Ranks())
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    samples.advantages = torch.ones_like(samples.advantages)
    return session, samples


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("row", ["sd3_guard_text", "flux_guard_text"])
def test_half_precision_is_on_policy_at_equal_batch_shapes(row: str, dtype: str, tmp_path: Path) -> None:
    name = f"backbones.{row.split('_')[0]}"
    session, samples = sampled(row, tmp_path, f"{name}.dtype={dtype}", f"{name}.guidance=4.5")
    assert session.recipe
    assert samples.rollout.state.dtype == samples.rollout.next.dtype == samples.rollout.mean.dtype == torch.float32
    update.check_on_policy(first_update(session, samples, 6), session.recipe)


def test_detached_guidance_is_on_policy_in_half_precision(tmp_path: Path) -> None:
    options = ("dtype=bfloat16", "guidance=4.5", "cfg_detach=true", "checkpointing=true")
    session, samples = sampled("sd3_guard_text", tmp_path, *(f"backbones.sd3.{option}" for option in options))
    assert session.recipe
    update.check_on_policy(first_update(session, samples, 6), session.recipe)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_policy_whose_latents_are_stored_in_bfloat16_is_stopped(dtype: str, tmp_path: Path) -> None:
    session, samples = sampled("sd3_guard_text", tmp_path, f"backbones.sd3.dtype={dtype}", "backbones.sd3.guidance=4.5")
    assert session.recipe
    samples.rollout.state.copy_(samples.rollout.state.bfloat16())
    samples.rollout.next.copy_(samples.rollout.next.bfloat16())
    with pytest.raises(GateError, match="keep latents and means in float32"):
        update.check_on_policy(first_update(session, samples, 6), session.recipe)


@pytest.mark.parametrize("row", ["sd3_guard_text", "sd3_temp_text", "flux_guard_text"])
def test_in_half_precision_every_forward_has_one_size(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"backbones.{row.split('_')[0]}"
    options = (f"{name}.dtype=bfloat16", f"{name}.guidance=4.5", "optim.micro_batch=5", "sampling.micro_batch=7")
    sizes, kind = [], SD3Policy if row.startswith("sd3") else FluxPolicy
    forward = kind._velocity

    def spied(policy: Any, sample: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(sample))
        return forward(policy, sample, *rest)

    monkeypatch.setattr(kind, "_velocity", spied)
    session, samples = sampled(row, tmp_path, *options)
    sampling = len(sizes)
    assert session.recipe
    update.check_on_policy(first_update(session, samples, 4), session.recipe)
    assert len(sizes) > sampling
    assert set(sizes) == {5}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forwards_of_one_size_change_no_velocity(backbone: str) -> None:
    policy = policy_of(backbone, 3.5)
    wanted = policy.velocity(*inputs(policy))
    for rows in (1, 2, 5):
        policy.rows = rows
        assert (policy.velocity(*inputs(policy)) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("overflows", [3, 17])
def test_a_float16_gradient_that_overflows_is_taken_again_at_half_the_scale(
    overflows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, samples = sampled("sd3_guard_text", tmp_path, "backbones.sd3.dtype=float16")
    assert session.recipe
    scales, gradients = [], update.gradients

    def spied(policy: Policy, *at: Any, **options: Any) -> list[StepRecord]:
        scales.append(policy.gradient_scale)
        if len(scales) > overflows:
            return gradients(policy, *at, **options)
        session.state.parameters[0].grad = torch.full_like(session.state.parameters[0], math.inf)
        return []

    monkeypatch.setattr(update, "gradients", spied)
    at = (session, session.recipe, samples, torch.arange(12), session.policy.times(4), 0)
    if overflows > 16:
        with pytest.raises(GateError, match="gradient of update 1 is not finite"):
            epoch.step(*at)
    else:
        epoch.step(*at)
    assert scales == [2.0 ** (16 - n) for n in range(min(overflows, 16) + 1)]
    assert session.policy.gradient_scale == 2.0**16
