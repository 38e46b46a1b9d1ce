"""ImageReward's model from transformers' own BLIP classes: no image-reward, timm, fairscale or torchvision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gold_metrics.image_reward import MEAN, STD, Reward, fill

if TYPE_CHECKING:
    from gold_metrics.image_reward import Vision

# Parts of names in the published checkpoint -> in transformers' BLIP, applied in this order.
RENAMED = {
    "blip.text_encoder.": "text.",
    "blip.visual_encoder.": "vision.",
    "vision.cls_token": "vision.embeddings.class_embedding",
    "vision.pos_embed": "vision.embeddings.position_embedding",
    "vision.patch_embed.proj.": "vision.embeddings.patch_embedding.",
    "vision.norm.": "vision.post_layernorm.",
    "vision.blocks.": "vision.encoder.layers.",
    ".attn.qkv.": ".self_attn.qkv.",
    ".attn.proj.": ".self_attn.projection.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    "mlp.layers.": "mlp.",
}

# image-reward 1.5, ImageReward.py:45-57: linear layers without activations; the dropouts between them, which do nothing
# in evaluation, keep their places in the numbering.
MLP_WIDTHS = (1024, 128, 64, 16, 1)
MLP_PLACES = (0, 2, 4, 6, 7)


class Blip(nn.Module):
    """Vision transformer -> text transformer that attends to it -> linear layers on the first token -> one number."""

    def __init__(self, vision: Vision, text: Mapping[str, Any]) -> None:
        """
        Args:
            text: BERT's sizes, by the names of med_config.json.
        """
        super().__init__()
        from transformers import BlipTextModel, BlipVisionModel

        self.vision = BlipVisionModel(_vision_config(vision))
        self.text = BlipTextModel(_text_config(text, vision.width), add_pooling_layer=False)
        widths = (text["hidden_size"], *MLP_WIDTHS)
        self.mlp = nn.Sequential(*(nn.Identity() for _ in range(max(MLP_PLACES) + 1)))
        for place, inside, outside in zip(MLP_PLACES, widths[:-1], widths[1:], strict=True):
            self.mlp[place] = nn.Linear(inside, outside)

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, S, S), token ids and mask (N, tokens) -> rewards (N,)."""
        patches = self.vision(pixels).last_hidden_state
        words = self.text(ids, attention_mask=mask, encoder_hidden_states=patches).last_hidden_state
        rewards: torch.Tensor = (self.mlp(words[:, 0])[:, 0] - MEAN) / STD
        return rewards


def build(
    vision: Vision, text_config: Path, tokenizer: Any, state: Mapping[str, torch.Tensor], device: torch.device
) -> Reward:
    """transformers' model with these weights, in evaluation mode; arguments and errors as the package's `build`."""
    model = Blip(vision, json.loads(text_config.read_text(encoding="utf-8")))
    fill(model, renamed(state))
    return model.to(device).eval()


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published checkpoint's weights under transformers' names."""
    names = {name: name for name in state}
    for old, new in RENAMED.items():
        names = {name: now.replace(old, new) for name, now in names.items()}
    return {now: state[name] for name, now in names.items()}


def _vision_config(vision: Vision) -> Any:
    from transformers import BlipVisionConfig

    return BlipVisionConfig(
        image_size=vision.size,
        patch_size=vision.patch,
        hidden_size=vision.width,
        intermediate_size=4 * vision.width,  # image-reward 1.5, models/BLIP/vit.py:87
        num_hidden_layers=vision.depth,
        num_attention_heads=vision.heads,
        hidden_act="gelu",
        layer_norm_eps=1e-6,  # image-reward 1.5, models/BLIP/vit.py:138
    )


def _text_config(text: Mapping[str, Any], vision_width: int) -> Any:
    from transformers import BlipTextConfig

    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    others = ("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id")
    kept = {name: text[name] for name in (*sizes, *others)}
    return BlipTextConfig(**kept, encoder_hidden_size=vision_width, is_decoder=True)
