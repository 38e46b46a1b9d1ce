"""A tiny ImageReward whose weights are written down as a formula, and what the package itself made of it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gold_metrics import Entry, Picture
from gold_metrics import image_reward_package as package
from gold_metrics.image_reward import Backend, ImageReward, Vision, load_tokenizer

CHECKPOINT, TEXT_CONFIG, VOCABULARY = "ImageReward.pt", "med_config.json", "vocab.txt"
TINY = Vision(size=32, patch=8, width=24, depth=2, heads=4)
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "circle",
    "of",
    "square",
    "and",
    "two",
    "##s",
]
WORDS += ["cafe", ",", ".", "big", "small", "three", "over"]
SIZES = {
    "vocab_size": len(WORDS) + 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "add_cross_attention": True,
}

PROMPTS = ("a red circle", "two Blue squares, big", "a café and an unheard-of zebra .", "a red circle over " * 12)
SHAPES = ((32, 32), (48, 33), (31, 90), (224, 500))

# `score` of the unmodified image-reward 1.5 under transformers 4.55.4, with the values and pictures below.
RECORDED = (
    -0.8666564226150513, -0.07229252904653549, -0.604949414730072, 0.40154534578323364,
    -1.3032602071762085, -0.04924027621746063, -0.9435266256332397, -0.709882915019989,
)  # fmt: skip


def closed_form(name: str, shape: Sequence[int]) -> torch.Tensor:
    """Values that no random generator and no library's initialization can change: integers, mixed, made uniform."""
    mixed = np.arange(math.prod(shape), dtype=np.uint64) + zlib.crc32(name.encode())
    for factor in (0x7FEB352D, 0x846CA68B):
        mixed = (mixed ^ mixed >> np.uint64(15)) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    uniform = mixed.astype(np.float64) / 2**31 - 1
    scale = 1.7 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
    norm = "norm" in name.lower() and name.endswith("weight")
    return torch.from_numpy((norm + scale * uniform).astype(np.float32).reshape(shape))


def pictures(count: int) -> list[Picture]:
    def paint(index: int) -> Picture:
        height, width = SHAPES[index % len(SHAPES)]
        y, x, channel = np.mgrid[:height, :width, :3]
        return np.uint8(127.5 + 127.5 * np.sin(x * (0.05 + 0.02 * index) + y * 0.07 * (channel + 1) + index))

    return [paint(index) for index in range(count)]


def entries(count: int) -> list[Entry]:
    return [Entry(f"{i}.png", f"{i:064x}", f"p{i % 4}", PROMPTS[i % 4] + " a" * (i // 4), i) for i in range(count)]


def tiny(folder: Path, backend: Backend) -> ImageReward:
    return ImageReward(backend, device="cpu", folder=folder, vision=TINY)


def changed(folder: Path, to: Path, change: Any) -> ImageReward:
    """A scorer whose checkpoint was changed."""
    for name in (TEXT_CONFIG, VOCABULARY):
        (to / name).write_bytes((folder / name).read_bytes())
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    change(state)
    torch.save(state, to / CHECKPOINT)
    return tiny(to, "package")


def write(folder: Path) -> Path:
    """The three files that the scorer needs."""
    (folder / TEXT_CONFIG).write_text(json.dumps(SIZES))
    (folder / VOCABULARY).write_text("\n".join(WORDS) + "\n")
    model = package.create(TINY, folder / TEXT_CONFIG, load_tokenizer(folder / VOCABULARY), torch.device("cpu"))
    torch.save({name: closed_form(name, value.shape) for name, value in model.named_parameters()}, folder / CHECKPOINT)
    return folder
