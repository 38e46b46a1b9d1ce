"""HPSv2's CLIP on open_clip or on transformers: the same weights, the same number to 1e-6."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gold_metrics.torchvision_repair import repair

Shape = Mapping[str, Any]
"""A model's sizes as open_clip's JSON files have them: embed_dim, vision_cfg, text_cfg."""

Embed = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Pixels (N, 3, S, S) and token ids (N, L) -> embeddings of pictures and of texts, (N, E) each, of length 1."""

# open_clip's names -> those of transformers' CLIPModel, in the order in which they are tried.
RENAMED = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)

# open_clip multiplies embeddings by these from the right, transformers from the left.
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")


def on_open_clip(shape: Shape, state: Mapping[str, torch.Tensor], device: torch.device) -> Embed:
    """The model as open_clip has it.

    Raises:
        RuntimeError: the weights are not those of this shape.
    """
    repair()
    from open_clip.model import CLIP

    model: Any = CLIP(**shape)
    model.load_state_dict(state, strict=True)
    model.to(device).eval()
    return lambda pixels, tokens: model(pixels, tokens)[:2]


def on_transformers(shape: Shape, state: Mapping[str, torch.Tensor], device: torch.device) -> Embed:
    """The model as transformers has it; neither torchvision nor open_clip's model code takes part.

    Raises:
        RuntimeError: the weights are not those of this shape.
    """
    repair()
    from transformers import CLIPConfig, CLIPModel

    model = CLIPModel(CLIPConfig(**config_of(shape)))
    model.load_state_dict(renamed(state), strict=True)
    model.to(device).eval()

    def embed(pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = model(input_ids=tokens, pixel_values=pixels)
        return embedded.image_embeds, embedded.text_embeds

    return embed


BACKENDS: dict[str, Callable[[Shape, Mapping[str, torch.Tensor], torch.device], Embed]] = {
    "open_clip": on_open_clip,
    "transformers": on_transformers,
}


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under transformers' names: one matrix for queries, keys and values becomes three."""
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".in_proj_" in name:
            for letter, part in zip("qkv", value.tensor_split(3), strict=True):
                found[name.replace(".in_proj_", f".{letter}_proj.")] = part
        else:
            found[name] = value.mT if name in TRANSPOSED else value
    return found


def config_of(shape: Shape) -> dict[str, Any]:
    """Options of transformers' CLIPConfig for open_clip's sizes."""
    seen, said = shape["vision_cfg"], shape["text_cfg"]
    # open_clip's defaults (open_clip/model.py at 2.32.0, CLIPVisionCfg and CLIPTextCfg): mlp_ratio 4, exact GELU, and
    # torch's epsilon 1e-5.
    common = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "projection_dim": shape["embed_dim"]}
    vision = {
        "image_size": seen["image_size"],
        "patch_size": seen["patch_size"],
        **_sizes(seen["width"], seen["layers"], seen["width"] // seen["head_width"]),
        **common,
    }
    text = {
        "max_position_embeddings": said["context_length"],
        "vocab_size": said["vocab_size"],
        # The last token of the vocabulary ends a text, and its embedding stands for the text (open_clip's argmax).
        "eos_token_id": said["vocab_size"] - 1,
        **_sizes(said["width"], said["layers"], said["heads"]),
        **common,
    }
    return {"vision_config": vision, "text_config": text, "projection_dim": shape["embed_dim"]}


def _sizes(width: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
