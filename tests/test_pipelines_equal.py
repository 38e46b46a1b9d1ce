"""At noise level 0 our sampler is the stock pipeline's own call: shipped and larger, guided or not, trained or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bench_runs import settings
from torch import Tensor

from bench import config, noise, sample, trained
from bench.noise import Coordinates
from bench.policy import Policy, load
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.session import prepare
from bench.tiny.tokens import CLIP_LENGTH, clip_tokenizer, t5_tokenizer

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
import diffusers  # isort: skip
import transformers  # isort: skip

WEIGHTS = Path(config.__file__).parent / "tiny/weights"
PROMPTS = [Prompt("a", "a red circle left of a blue square"), Prompt("b", 'the text "K7"')]
STEPS = 6
TEXT_TOKENS = 24  # of the larger pipelines: T5 reads further than CLIP, as at full size
CASES = [("sd3", 1.0), ("sd3", 4.5), ("flux", 3.5), ("flux", 1.0)]


def clip(kind: Any, width: int) -> Any:
    tokenizer = clip_tokenizer()
    made = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return kind(made)


def t5(width: int) -> Any:
    made = transformers.T5Config(
        vocab_size=len(t5_tokenizer()), d_model=width, d_kv=24, d_ff=2 * width, num_layers=3, num_heads=4
    )
    return transformers.T5EncoderModel(made)


def autoencoder() -> Any:
    """Eight pixels to a latent element, sixteen channels, as SD3's and Flux's."""
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def larger_sd3() -> Any:
    """Six blocks, two of them with dual attention; two CLIP encoders narrower together than T5."""
    transformer = diffusers.SD3Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=160,
        caption_projection_dim=192,
        pooled_projection_dim=112,
        pos_embed_max_size=24,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=clip(transformers.CLIPTextModelWithProjection, 48),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection, 64),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(160),
        tokenizer_3=t5_tokenizer(),
    )


def larger_flux() -> Any:
    """Three double and four single blocks, guidance embedded, rotary axes of unequal length."""
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=3,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=160,
        pooled_projection_dim=48,
        guidance_embeds=True,
        axes_dims_rope=(4, 14, 14),
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
        vae=autoencoder(),
        text_encoder=clip(transformers.CLIPTextModel, 48),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(160),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random pipelines with the traits of the full-size ones that the shipped ones lack."""
    root = tmp_path_factory.mktemp("larger")
    for name, build in (("sd3", larger_sd3), ("flux", larger_flux)):
        torch.manual_seed(0)
        build().save_pretrained(root / name)
    return {name: root / name for name in ("sd3", "flux")}


def ours(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The final latents of `bench.sample.images`."""
    with monkeypatch.context() as patch:
        patch.setattr(policy, "decode", lambda latents: latents)
        return sample.images(policy, PROMPTS, seed=3, member=0, steps=STEPS)  # type: ignore[return-value]


def stock(pipe: Any, policy: Policy) -> Tensor:
    """The final latents of the pipeline's own call, from the noise that `bench.sample.images` starts from."""
    initial = [noise.normal(Coordinates(3, "evaluation", prompt=p.id), policy.latent_shape) for p in PROMPTS]
    return pipe(
        [prompt.text for prompt in PROMPTS],
        num_inference_steps=STEPS,
        guidance_scale=policy.guidance,
        latents=torch.stack(initial),
        height=policy.resolution,
        width=policy.resolution,
        max_sequence_length=policy.text_tokens,
        output_type="latent",
    ).images


@pytest.mark.parametrize(("backbone", "guidance"), CASES)
def test_our_sampler_is_the_shipped_pipelines_own_call(
    backbone: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(str(WEIGHTS / backbone), 32, 10, guidance)
    assert torch.allclose(ours(policy, monkeypatch), stock(policy.pipe, policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "guidance", "cfg_detach"), [*((*case, False) for case in CASES), ("sd3", 4.5, True)]
)
def test_our_sampler_is_a_larger_pipelines_own_call(
    backbone: str, guidance: float, cfg_detach: bool, larger: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(str(larger[backbone]), 128, TEXT_TOKENS, guidance, cfg_detach=cfg_detach)
    assert torch.allclose(ours(policy, monkeypatch), stock(policy.pipe, policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_the_larger_pipelines_heed_guidance_and_prompt(
    backbone: str, larger: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(str(larger[backbone]), 128, TEXT_TOKENS, 3.5)
    strong = ours(policy, monkeypatch)
    policy.guidance = 1.0
    assert (ours(policy, monkeypatch) - strong).abs().max() > 1e-3
    swapped = policy.encode([prompt.text for prompt in PROMPTS[::-1]])
    monkeypatch.setattr(policy, "encode", lambda texts: swapped)
    policy.guidance = 3.5
    assert (ours(policy, monkeypatch) - strong).abs().max() > 1e-3


@pytest.mark.parametrize(("row", "guidance"), [("sd3_guard_text", 4.5), ("flux_guard_text", 3.5)])
def test_a_saved_adapter_gives_the_stock_pipeline_the_policys_evaluation_latents(
    row: str, guidance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = row.split("_")[0]
    session = prepare(settings(row, tmp_path, f"backbones.{backbone}.guidance={guidance}"), Ranks())
    before = ours(session.policy, monkeypatch)
    generator = torch.Generator().manual_seed(1)
    for average in session.state.ema.average:
        average.add_(0.05 * torch.randn(average.shape, generator=generator))
    with session.state.ema.swapped_in():
        trained.save_lora(session.policy, tmp_path / "lora")
        after = ours(session.policy, monkeypatch)
    pipe = diffusers.DiffusionPipeline.from_pretrained(WEIGHTS / backbone)
    pipe.load_lora_weights(tmp_path / "lora")
    bare = load(str(WEIGHTS / backbone), 32, 10, guidance)
    trained.load_lora(bare, tmp_path / "lora")
    assert (after - before).abs().max() > 1e-2
    assert torch.allclose(stock(pipe, session.policy), after, rtol=0, atol=1e-5)
    assert torch.allclose(ours(bare, monkeypatch), after, rtol=0, atol=1e-5)
