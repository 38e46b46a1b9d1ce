"""The tiny models that GenEval's tests look with, and pictures for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gold_metrics import Picture
from gold_metrics.torchvision_repair import repair

repair()

LABELS = ("person", "aeroplane", "diningtable", "cup", "mouse")
SIDE = 48

SMALL_INPUT = {"SHORT": 64, "LONG": 107}
"""A detector input of 64 pixels instead of 800, so that a tiny model takes a tiny time."""


def save_mask2former(folder: Path) -> Path:
    """A Mask2Former of five classes that finds something in most pictures."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, num_queries=12,
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        # Random classes are all alike: made far apart, some pass the threshold.
        model.class_predictor.weight.mul_(40)
        model.class_predictor.bias[-1] -= 1
    model.save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP of two layers that reads letter by letter."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    end = len(tokens) - 1
    tower = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**tower, "vocab_size": len(tokens), "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    torch.manual_seed(1)
    vision = {**tower, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def pictures(count: int, side: int = SIDE) -> list[Picture]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(each).resize((side, side))) for each in coarse]
