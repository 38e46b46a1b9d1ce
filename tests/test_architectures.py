"""The published architectures, and what one image costs them, against derivations that do not count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import config
from bench.architectures import FLUX_DEV, PUBLISHED, SD35_MEDIUM, ArchitectureError, build, parameters, parts
from bench.counting import Counts, Shape, count, inputs, kept_bytes, operations, with_adapter
from bench.suite import configure

TINY = Path(config.__file__).parent / "tiny/weights"
IMAGE_TOKENS = 1024  # 512 pixels, 8 to a latent, 2 x 2 latents a token


def shape(backbone: str, scale: str, **changes: Any) -> Shape:
    made = configure(f"{backbone}_base", [f"scale={scale}"]).backbones[backbone]
    lora = made.lora
    known = Shape(made.weights, made.resolution, made.text_tokens, lora.rank, tuple(lora.targets))
    return replace(known, **({"dtype": "bfloat16"} if scale == "paper" else {}) | changes)


def counts(backbone: str) -> Counts:
    return count(shape(backbone, "paper"))


@pytest.mark.parametrize(("weights", "wanted"), [(SD35_MEDIUM, 2_243_171_520), (FLUX_DEV, 11_901_408_320)])
def test_the_full_size_transformers_have_the_published_number_of_parameters(weights: str, wanted: int) -> None:
    assert parameters(build(weights)) == wanted


def test_text_encoders_and_autoencoders_have_the_published_number_of_parameters() -> None:
    # CLIP-L 123.65 M and bigG 694.66 M with projections, T5-XXL's encoder 4.76 G, the 16-channel autoencoder 83.8 M.
    found = {name: parameters(build(SD35_MEDIUM, name)) for name in PUBLISHED[SD35_MEDIUM] if name != "transformer"}
    assert found == {
        "vae": 83_819_683,
        "text_encoder": 123_650_304,
        "text_encoder_2": 694_659_840,
        "text_encoder_3": 4_762_310_656,
    }
    assert parameters(build(FLUX_DEV, "text_encoder_2")) == found["text_encoder_3"]


@pytest.mark.parametrize("weights", PUBLISHED)
def test_a_pipelines_parts_fit_together(weights: str) -> None:
    known = {name: part.config for name, part in parts(weights).items()}
    transformer, t5 = known["transformer"], known["text_encoder_3" if weights == SD35_MEDIUM else "text_encoder_2"]
    clips = [each["projection_dim"] for each in known.values() if "projection_dim" in each]
    patch = 4 if weights == FLUX_DEV else 1
    assert transformer["joint_attention_dim"] == t5["d_model"]
    assert transformer["pooled_projection_dim"] == sum(clips)
    assert transformer["in_channels"] == known["vae"]["latent_channels"] * patch


def weight_work(network: nn.Module, image: int, text: int) -> int:
    """Two operations for each weight and each token that it sees, by the names of diffusers' layers."""

    def tokens(name: str) -> int:
        if "time_text_embed" in name or ".linear" in name:
            return 1  # one vector a sample: time, pooled prompt, modulation
        if name.startswith("single_"):
            return image + text
        return text if "context" in name or "add_" in name else image

    layers = (nn.Linear, nn.Conv2d)
    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, layers)]
    return sum(2 * module.weight.numel() * tokens(name) for name, module in modules)


@pytest.mark.parametrize(
    ("weights", "backbone", "text", "attention", "tflop"),
    [
        (SD35_MEDIUM, "sd3", 77 + 128, 4 * 1536 * (24 * (IMAGE_TOKENS + 205) ** 2 + 13 * IMAGE_TOKENS**2), 2.22),
        (FLUX_DEV, "flux", 512, 4 * 3072 * (19 + 38) * (IMAGE_TOKENS + 512) ** 2, 21.5),
    ],
)
def test_the_forwards_operations_are_those_of_weights_times_tokens_plus_attention(
    weights: str, backbone: str, text: int, attention: int, tflop: float
) -> None:
    adapted = weight_work(with_adapter(shape(backbone, "paper")), IMAGE_TOKENS, text)
    assert counts(backbone).forward == adapted + attention
    frozen = weight_work(build(weights), IMAGE_TOKENS, text) + attention
    assert frozen / 1e12 == pytest.approx(tflop, rel=2e-3)


def test_training_an_adapter_costs_what_was_measured_elsewhere() -> None:
    # TFLOP recorded with another program on diffusers 0.42.1, LoRA r32 on SD3.5-M, r64 on Flux: 2.25 + 2.67 and 46.4.
    sd3, flux = counts("sd3"), counts("flux")
    assert (sd3.trainable, flux.trainable) == (18_776_064, 179_306_496)
    assert (round(sd3.forward / 1e12, 2), round(sd3.backward / 1e12, 2)) == (2.25, 2.67)
    assert round((flux.forward + flux.backward) / 1e12, 1) == 46.4
    assert (round(sd3.decode / 1e12, 2), round(flux.decode / 1e12, 2)) == (2.51, 2.51)
    # T5-XXL 1.19 at 128 tokens and 4.84 at 512, CLIP-G .10, CLIP-L .013.
    assert sd3.encode / 1e12 == pytest.approx(1.19 + 0.10 + 0.013, rel=5e-3)
    assert flux.encode / 1e12 == pytest.approx(4.84 + 0.013, rel=5e-3)


def test_the_forward_keeps_what_was_measured_elsewhere() -> None:
    # GB a row in bfloat16 with the float32 adapter, recorded with another program: 2.58 and 12.7.
    assert round(counts("sd3").kept / 1e9, 2) == 2.58
    assert round(counts("flux").kept / 1e9, 1) == 12.7


def test_only_flux_takes_its_guidance_as_an_input() -> None:
    assert (counts("sd3").distilled, counts("flux").distilled) == (False, True)


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_the_meta_device_counts_what_a_real_forward_does(backbone: str) -> None:
    known = shape(backbone, "tiny")
    network = build(known.weights, device="cpu")
    real = {k: torch.rand(v.shape) if isinstance(v, torch.Tensor) else v for k, v in inputs(known, 2).items()}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = network(**real)[0]
    with torch.no_grad():
        counted, _ = operations(lambda: build(known.weights)(**inputs(known, 2)))
    assert bool(torch.isfinite(out).all())
    assert counted == counter.get_total_flops()


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_the_autograd_of_a_real_forward_keeps_what_was_counted(backbone: str) -> None:
    known = shape(backbone, "tiny")
    network = with_adapter(known).to_empty(device="cpu")
    real = {k: torch.rand(v.shape) if isinstance(v, torch.Tensor) else v for k, v in inputs(known).items()}
    kept, _ = kept_bytes(network, lambda: network(**real)[0])
    assert kept == pytest.approx(count(known).kept, rel=0.03)


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_costs_are_proportional_to_the_rows_of_a_batch(backbone: str) -> None:
    known = shape(backbone, "tiny")
    network = with_adapter(known)
    one, four = (operations(lambda n=rows: kept_bytes(network, lambda: network(**inputs(known, n)))) for rows in (1, 4))
    assert four[0] == 4 * one[0]
    assert four[1][0] == pytest.approx(4 * one[1][0], rel=0.03)


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_checkpointing_trades_a_forward_for_most_of_what_is_kept(backbone: str) -> None:
    known = shape(backbone, "tiny")
    plain, traded = count(known), count(replace(known, checkpointing=True))
    blocks = {"sd3": 3, "flux": 4}[backbone]
    assert traded.forward == plain.forward
    assert traded.backward == plain.backward + plain.forward
    assert plain.kept / blocks < traded.kept < plain.kept / blocks + 0.2 * plain.kept


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_a_folder_is_built_as_the_pipeline_that_lies_in_it(backbone: str) -> None:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(TINY / backbone)
    for name in parts(str(TINY / backbone)):
        shipped, built = getattr(pipe, name).state_dict(), build(str(TINY / backbone), name).state_dict()
        assert {key: value.shape for key, value in shipped.items()} == {k: v.shape for k, v in built.items()}


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    small = {"num_layers": 1, "num_attention_heads": 2, "caption_projection_dim": 128, "pos_embed_max_size": 32}
    before = torch.get_rng_state()
    one, same, other = (build(SD35_MEDIUM, device="cpu", seed=seed, **small) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert sum(not torch.equal(a, c) for a, _, c in pairs) > len(pairs) / 2
    assert isinstance(one, type(build(SD35_MEDIUM)))


def test_an_unknown_pipeline_part_or_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"transformer": ["diffusers", "SD3Transformer2DModel"]}')
    for weights, part, found in (
        ("nobody/nothing", "transformer", "nobody/nothing"),
        (SD35_MEDIUM, "text_encoder_4", "text_encoder_4"),
        (str(tmp_path), "transformer", "config.json"),
    ):
        with pytest.raises(ArchitectureError, match=found) as caught:
            build(weights, part)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArchitectureError, match="multiple of 16"):
        inputs(shape("sd3", "paper", resolution=500))
