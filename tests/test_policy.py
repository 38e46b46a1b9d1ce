"""The policies are the stock pipelines: same schedule, same layout, same adapter; bad input gets one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from bench_runs import settings
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import Tensor

from baselines.sde import ode_step
from bench import config, sample, trained
from bench.policy import Policy, PolicyError, fingerprint, load
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.session import prepare

PROMPTS = ["a red circle left of a blue square", 'the text "K7"']
BACKBONES = ("sd3", "flux")


def policy_of(
    backbone: str, tmp_path: Path, guidance: float, *, resolution: int | None = None, **options: Any
) -> Policy:
    made = settings(f"{backbone}_base", tmp_path).backbones[backbone]
    return load(
        made.weights, made.resolution if resolution is None else resolution, made.text_tokens, guidance, **options
    )


def by_hand(policy: Policy, latents: Tensor, steps: int) -> Tensor:
    conditioning, times = policy.encode(PROMPTS), policy.times(steps)
    with torch.no_grad():
        for index in range(steps):
            velocity = policy.velocity(latents, times[index].expand(len(latents)), conditioning)
            latents = ode_step(latents, velocity, times, index)
    return latents


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
    trained.save_lora(session.policy, tmp_path / "lora")
    stock = policy_of(session.row.backbone, tmp_path, session.policy.guidance)
    latents = torch.randn(2, *stock.latent_shape, generator=torch.Generator().manual_seed(0))
    before = by_hand(stock, latents, 3)
    stock.pipe.load_lora_weights(tmp_path / "lora")
    after = by_hand(session.policy, latents, 3)
    assert torch.allclose(by_hand(stock, latents, 3), after, rtol=0, atol=1e-5)
    assert not torch.allclose(before, after, rtol=0, atol=1e-2)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_adapter_of_another_backbone_is_refused(backbone: str, tmp_path: Path) -> None:
    other = policy_of({"sd3": "flux", "flux": "sd3"}[backbone], tmp_path, 1.0)
    other.add_lora(4, 8, ["attn.to_q"], 0)
    trained.save_lora(other, tmp_path / "lora")
    policy = policy_of(backbone, tmp_path, 1.0)
    with pytest.raises(PolicyError, match=r"adapter .* was made for another backbone than this .* fits no layer here"):
        trained.load_lora(policy, tmp_path / "lora")
    with pytest.raises(PolicyError, match=r"no adapter could be read from .*nowhere"):
        trained.load_lora(policy, tmp_path / "nowhere")


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    url = "https://huggingface.co/any"
    return kind("no", response=httpx.Response(status, request=httpx.Request("GET", url)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ("black-forest-labs/FLUX.1-dev", answer(GatedRepoError, 403), ["FLUX.1 [dev] Non-Commercial", "HF_TOKEN"]),
        (
            "stabilityai/stable-diffusion-3.5-medium",
            answer(GatedRepoError, 401),
            ["Stability AI Community License", "https://huggingface.co/stabilityai/stable-diffusion-3.5-medium"],
        ),
        ("nobody/nothing", answer(RepositoryNotFoundError, 404), ["'nobody/nothing'", "check the name", "HF_TOKEN"]),
        ("nobody/nothing", OfflineModeIsEnabled("offline mode"), ["no pipeline could be loaded", "offline mode"]),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_weights_that_cannot_be_had_say_what_to_do(
    weights: str, error: Exception, words: list[str], hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        if hidden:  # as diffusers does where the hub's page of a repository cannot be read
            raise OSError(f"Cannot load model ({error})\nSee above") from error
        raise error

    monkeypatch.setattr("bench.policy.DiffusionPipeline.from_pretrained", refuse)
    with pytest.raises(PolicyError) as raised:
        load(weights, 512, 128, 4.5)
    assert all(word in str(raised.value) for word in words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("backbone", "options", "words"),
    [
        ("sd3", {"resolution": 36}, "resolution must be a multiple of 8 for this autoencoder, not 36"),
        ("flux", {"resolution": 0}, "resolution must be a multiple of 8 for this autoencoder, not 0"),
        ("sd3", {"resolution": 64}, "resolution must be at most 32, the positions of this transformer, not 64"),
        ("flux", {"cfg_detach": True}, "Flux has no unconditional half, set it to false"),
        ("sd3", {"dtype": "fp16"}, "dtype must be one of float32, bfloat16, float16, not 'fp16'"),
    ],
)
def test_settings_that_the_weights_cannot_take_are_refused(
    backbone: str, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match=words):
        policy_of(backbone, tmp_path, 4.5, **options)


def test_a_repository_of_which_only_the_pipelines_files_were_fetched_has_a_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = Path(config.__file__).parent / "tiny/weights/sd3"

    def partly(*_: object, **__: object) -> str:
        raise IncompleteSnapshotError("files are missing", snapshot_path=str(shipped))

    monkeypatch.setattr("bench.hub.snapshot_download", partly)
    assert fingerprint("stabilityai/stable-diffusion-3.5-medium") == fingerprint(str(shipped))


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
