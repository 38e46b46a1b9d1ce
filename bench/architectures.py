"""SD3.5-M and FLUX.1-dev as published: what each part of the pipeline is built from, without a download.

`build("stabilityai/stable-diffusion-3.5-medium")` is the exact transformer of diffusers' own class on the meta device,
where it has shapes and no memory; on another device it has random weights. A pipeline folder is read instead of named.
The hub's config.json files are gated; each value is the one of the public code named beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gold_metrics.torchvision_repair import repair

repair()

import diffusers  # noqa: E402
import transformers  # noqa: E402

SD35_MEDIUM = "stabilityai/stable-diffusion-3.5-medium"
FLUX_DEV = "black-forest-labs/FLUX.1-dev"


class ArchitectureError(ValueError):
    """Nothing can be built under that name; the message says what can."""


@dataclass(frozen=True)
class Part:
    """A class of diffusers or transformers, and what it is made with."""

    kind: str
    config: dict[str, Any]


# diffusers scripts/convert_sd3_to_diffusers.py at 3ab805a: sample, patch, channels, joint width and rms_norm as there,
# "sd3.5: (0 ... 12)" dual attention layers, pos_embed_max_size 384 for "sd3.5 2b", as many heads as layers. 24 layers,
# hence caption_projection_dim 24 x 64: Stability-AI/sd3.5 sd3_impls.py at 8df03ab, 64 x depth. Pooled: CLIP-L's 768 and
# bigG's 1280.
_SD35_TRANSFORMER = Part(
    "SD3Transformer2DModel",
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "num_attention_heads": 24,
        "attention_head_dim": 64,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
        "qk_norm": "rms_norm",
    },
)

# black-forest-labs/flux src/flux/util.py at 1f71c43, configs["flux-dev"]: in_channels, depth, depth_single_blocks,
# num_heads, hidden_size / num_heads, context_in_dim, vec_in_dim, guidance_embed, axes_dim. Patches are cut outside.
_FLUX_TRANSFORMER = Part(
    "FluxTransformer2DModel",
    {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    },
)


def _autoencoder(scaling: float, shift: float) -> Part:
    # flux src/flux/util.py at 1f71c43, ae_params: ch 128, ch_mult (1, 2, 4, 4), num_res_blocks 2, z_channels 16;
    # SD3's differs in scale and shift alone, and neither has quant convolutions (diffusers
    # scripts/convert_sd3_to_diffusers.py at 3ab805a).
    return Part(
        "AutoencoderKL",
        {
            "sample_size": 1024,
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "latent_channels": 16,
            "norm_num_groups": 32,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "scaling_factor": scaling,
            "shift_factor": shift,
        },
    )


# Stability-AI/sd3.5 sd3_infer.py at 0d36b14, CLIPL_CONFIG; projection as openai/CLIP's ViT-L/14 has it.
_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
# Stability-AI/sd3.5 sd3_infer.py at 0d36b14, CLIPG_CONFIG; embed_dim of open_clip model_configs/ViT-bigG-14.json.
_CLIP_BIGG = _CLIP_L | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
# Stability-AI/sd3.5 sd3_infer.py at 0d36b14, T5_CONFIG; head_dim of google-research/t5x t5_1_1/xxl.gin at 2c29433.
_T5_XXL = Part(
    "T5EncoderModel",
    {
        "d_model": 4096,
        "d_ff": 10240,
        "d_kv": 64,
        "num_layers": 24,
        "num_heads": 64,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",  # T5 1.1's, where T5 1.0 has relu
        "tie_word_embeddings": False,
    },
)

PUBLISHED: dict[str, dict[str, Part]] = {
    SD35_MEDIUM: {
        "transformer": _SD35_TRANSFORMER,
        "vae": _autoencoder(1.5305, 0.0609),  # diffusers scripts/convert_sd3_to_diffusers.py at 3ab805a
        "text_encoder": Part("CLIPTextModelWithProjection", _CLIP_L),
        "text_encoder_2": Part("CLIPTextModelWithProjection", _CLIP_BIGG),
        "text_encoder_3": _T5_XXL,
    },
    FLUX_DEV: {
        "transformer": _FLUX_TRANSFORMER,
        "vae": _autoencoder(0.3611, 0.1159),  # black-forest-labs/flux src/flux/util.py at 1f71c43
        "text_encoder": Part("CLIPTextModel", _CLIP_L),
        "text_encoder_2": _T5_XXL,
    },
}


def parts(weights: str) -> dict[str, Part]:
    """The trained and frozen networks of a pipeline, by their names in it.

    Args:
        weights: a key of `PUBLISHED`, or a pipeline folder, of which only the settings are read.

    Raises:
        ArchitectureError: neither of the two, or a folder with a setting missing.
    """
    if weights in PUBLISHED:
        return PUBLISHED[weights]
    folder = Path(weights)
    if not (folder / "model_index.json").is_file():
        raise ArchitectureError(
            f"no architecture is known of {weights!r}: wanted a folder with model_index.json, or one of "
            f"{', '.join(PUBLISHED)}"
        )
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        names = [name for name in index if name in ("transformer", "vae") or name.startswith("text_encoder")]
        return {name: _read_part(folder / name / "config.json", index[name][1]) for name in names if index[name][1]}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ArchitectureError(f"the pipeline folder {weights} cannot be read: {error}; make it anew") from error


def _read_part(path: Path, kind: str) -> Part:
    config = json.loads(path.read_text(encoding="utf-8"))
    return Part(kind, {key: value for key, value in config.items() if not key.startswith("_")})


def build(
    weights: str, part: str = "transformer", device: str | torch.device = "meta", seed: int = 0, **changes: Any
) -> nn.Module:
    """One network of a pipeline with its library's own class, nothing downloaded.

    Args:
        weights: as for `parts`.
        part: its name in the pipeline.
        device: on "meta" it has no memory; elsewhere its weights are random float32 as the class draws them.
        seed: of that draw, which is the same on every call and leaves torch's generators as they were.
        changes: settings to replace, num_layers=2 for instance.

    Raises:
        ArchitectureError: no such pipeline or part.
    """
    known = parts(weights)
    if part not in known:
        raise ArchitectureError(f"{weights} has no part {part!r}; it has {', '.join(known)}")
    target = torch.device(device)
    with torch.random.fork_rng([target] if target.type == "cuda" else []), target:
        torch.manual_seed(seed)
        return _make(known[part].kind, known[part].config | changes).eval()


def _make(kind: str, config: dict[str, Any]) -> nn.Module:
    if hasattr(diffusers, kind):
        made: nn.Module = getattr(diffusers, kind)(**config)
        return made
    encoder = getattr(transformers, kind)
    return encoder(encoder.config_class(**config))


def parameters(network: nn.Module, trainable: bool = False) -> int:
    """How many numbers a network holds, or of them those that are trained."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)
