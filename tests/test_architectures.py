"""How an image's cost is counted, against real forwards and their autograd; test_full_size has the published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import config
from bench.architectures import SD35_MEDIUM, ArchitectureError, build, parts
from bench.counting import Shape, count, inputs, kept_bytes, operations, with_adapter
from bench.suite import configure

TINY = Path(config.__file__).parent / "tiny/weights"


def shape(backbone: str, scale: str, **changes: Any) -> Shape:
    made = configure(f"{backbone}_base", [f"scale={scale}"]).backbones[backbone]
    lora = made.lora
    known = Shape(made.weights, made.resolution, made.text_tokens, lora.rank, tuple(lora.targets))
    return replace(known, **({"dtype": "bfloat16"} if scale == "paper" else {}) | changes)


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
