"""The policies are the stock pipelines: same embeddings, same schedule, same latents, same adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from bench_runs import settings
from torch import Tensor

from baselines.sde import ode_step
from bench import config, sample
from bench.policy import Policy, fingerprint, load
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.session import prepare

PROMPTS = ["a red circle left of a blue square", 'the text "K7"']
BACKBONES = ("sd3", "flux")


def policy_of(backbone: str, tmp_path: Path, guidance: float) -> Policy:
    made = settings(f"{backbone}_base", tmp_path).backbones[backbone]
    return load(made.weights, made.resolution, made.text_tokens, guidance)


def by_hand(policy: Policy, latents: Tensor, steps: int) -> Tensor:
    conditioning, times = policy.encode(PROMPTS), policy.times(steps)
    with torch.no_grad():
        for index in range(steps):
            velocity = policy.velocity(latents, times[index].expand(len(latents)), conditioning)
            latents = ode_step(latents, velocity, times, index)
    return latents


@pytest.mark.parametrize(("backbone", "guidance"), [("sd3", 1.0), ("sd3", 4.5), ("flux", 3.5)])
def test_the_deterministic_sampler_is_the_stock_pipelines(backbone: str, guidance: float, tmp_path: Path) -> None:
    policy = policy_of(backbone, tmp_path, guidance)
    latents = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    stock = policy.pipe(
        PROMPTS,
        num_inference_steps=6,
        guidance_scale=guidance,
        latents=latents,
        height=policy.resolution,
        width=policy.resolution,
        max_sequence_length=policy.text_tokens,
        output_type="latent",
    ).images
    assert torch.allclose(by_hand(policy, latents, 6), stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_times_fall_from_one_to_zero_and_are_the_schedulers(backbone: str, tmp_path: Path) -> None:
    policy = policy_of(backbone, tmp_path, 1.0)
    times = policy.times(10)
    assert times[0] == 1
    assert times[-1] == 0
    assert bool((times.diff() < 0).all())
    assert torch.equal(times, policy.pipe.scheduler.sigmas.float())


def test_sd3_times_are_those_of_sd35_medium(tmp_path: Path) -> None:
    # diffusers FlowMatchEulerDiscreteScheduler(shift=3), 10 steps: the shift is applied twice at the small end.
    expected = [1.0, 0.96013, 0.91335, 0.85769, 0.79037, 0.70728, 0.60215, 0.46488, 0.27805, 0.00893, 0.0]
    assert policy_of("sd3", tmp_path, 1.0).times(10).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_packing_and_unpacking_are_inverse(backbone: str, tmp_path: Path) -> None:
    policy = policy_of(backbone, tmp_path, 1.0)
    latent = torch.randn(3, 8, 8, 8)
    assert policy.pack(latent).shape == (3, *policy.latent_shape)
    assert torch.equal(policy.unpack(policy.pack(latent)), latent)


@pytest.mark.parametrize("row", ["sd3_flow_text", "flux_dance_text"])
def test_a_fresh_adapter_changes_nothing_and_is_the_same_for_every_method(row: str, tmp_path: Path) -> None:
    session = prepare(settings(row, tmp_path), Ranks())
    twin = prepare(settings(row.replace("flow", "guard").replace("dance", "guard"), tmp_path), Ranks())
    bare = policy_of(session.row.backbone, tmp_path, session.policy.guidance)
    assert session.state.names == twin.state.names
    assert all(torch.equal(a, b) for a, b in zip(session.state.parameters, twin.state.parameters, strict=True))
    prompts = [Prompt("p", PROMPTS[0])]
    assert (sample.images(session.policy, prompts, 0, 0, 3) == sample.images(bare, prompts, 0, 0, 3)).all()


@pytest.mark.parametrize("row", ["sd3_flow_text", "flux_dance_text"])
def test_the_saved_adapter_loads_into_the_stock_pipeline(row: str, tmp_path: Path) -> None:
    session = prepare(settings(row, tmp_path), Ranks())
    with torch.no_grad():
        for i, parameter in enumerate(session.state.parameters):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    session.policy.save_lora(tmp_path / "lora")
    stock = policy_of(session.row.backbone, tmp_path, session.policy.guidance)
    latents = torch.randn(2, *stock.latent_shape, generator=torch.Generator().manual_seed(0))
    before = by_hand(stock, latents, 3)
    stock.pipe.load_lora_weights(tmp_path / "lora")
    trained = by_hand(session.policy, latents, 3)
    assert torch.allclose(by_hand(stock, latents, 3), trained, rtol=0, atol=1e-5)
    assert not torch.allclose(before, trained, rtol=0, atol=1e-2)


def test_guided_velocity_carries_gradient_through_both_halves(tmp_path: Path) -> None:
    policy = policy_of("sd3", tmp_path, 4.5)
    names, parameters = policy.add_lora(4, 8, ["attn.to_q"], 0)
    conditioning, time = policy.encode(PROMPTS), torch.tensor([0.7, 0.7])
    latents = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    policy.velocity(latents, time, conditioning).square().mean().backward()
    guided = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    one = policy.velocity(latents, time, conditioning).detach()
    policy.guidance = 1.0
    for p in parameters:
        p.grad = None
    with_prompt = policy.velocity(latents, time, conditioning)
    (2 * one * 4.5 * with_prompt).mean().backward()
    half = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert names
    assert (guided - half).norm() > 0.1 * half.norm()


def test_a_fingerprint_tells_weights_tokenizers_and_schedulers_apart(tmp_path: Path) -> None:
    shipped = Path(config.__file__).parent / "tiny/weights/sd3"
    prints = {fingerprint(str(shipped))}
    for part in (
        "transformer/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ):
        copy = tmp_path / part.split("/")[0]
        shutil.copytree(shipped, copy)
        assert fingerprint(str(copy)) in prints
        changed = bytearray((copy / part).read_bytes())
        changed[-3] ^= 1
        (copy / part).write_bytes(changed)
        prints.add(fingerprint(str(copy)))
    assert len(prints) == 4
    assert fingerprint("nobody/nothing-of-this-name") == ""
