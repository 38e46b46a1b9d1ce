"""CLIP models of a few thousand weights, the same on every machine and with every version of every library."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gold_metrics import Entry, Picture

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "clip_values.json").read_text())
"""Numbers of the published code on these weights and pictures, with their sources."""

SIDE = 32

SHAPE: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""HPSv2's model but for its sizes; the vocabulary is the one of open_clip's tokenizer."""

LONG = " ".join(["a cat on a table"] * 30)
"""More than 77 tokens for either tokenizer."""

PROMPTS = ("a red cat on a table", "Two dogs, and a bird!", 'the word "open" in snow', "a")

# Height and width of the test pictures.
SIZES = {"square": (32, 32), "large": (100, 100), "wide": (20, 61), "tall": (70, 33), "tiny": (5, 7), "even": (64, 48)}


def filled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of that name. `RandomState` is frozen (NEP 19), a library's own initialization is not."""
    if name.endswith("logit_scale"):
        return torch.tensor(4.0)
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if "norm" in name or "layrnorm" in name or ".ln_" in name or name.startswith("ln_"):
        values = 0.1 * values + name.endswith("weight")
    elif name.endswith("bias"):
        values = 0.1 * values
    elif "embedding" in name and "patch" not in name:
        values = 0.5 * values
    else:
        values = 1.5 * values / np.sqrt(np.prod(shape[1:]))
    return torch.tensor(values, dtype=torch.float32)


def state_of(shapes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names with the weights of this file."""
    return {name: filled(name, tuple(value.shape)) for name, value in shapes.items()}


def picture(kind: str, seed: int = 0) -> Picture:
    """A smooth color field with noise, uint8 (height, width, 3)."""
    height, width = SIZES[kind]
    random = np.random.RandomState(zlib.crc32(kind.encode()) + seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(6 * (a * rows + b * columns) + c) for a, b, c in random.uniform(0, 3, (3, 3))]
    return np.clip(128 + 80 * np.stack(waves, axis=2) + 20 * random.standard_normal((height, width, 3)), 0, 255).astype(
        np.uint8
    )


def entry(prompt: str) -> Entry:
    return Entry("", "", prompt, prompt, 0)


def many(count: int) -> tuple[list[Picture], list[Entry]]:
    """Pictures of all sizes with prompts in turn, no two pictures alike."""
    kinds = list(SIZES)
    pictures = [picture(kinds[i % len(kinds)], seed=i) for i in range(count)]
    return pictures, [entry(PROMPTS[i % len(PROMPTS)]) for i in range(count)]


def palette(transparency: int | None = None) -> bytes:
    """A PNG of 16 colors; `transparency` is the color that should not be seen."""
    image = Image.fromarray(picture("wide")[:, :, 0] // 16, mode="P")
    image.putpalette(np.random.RandomState(0).randint(0, 256, 48).tolist())
    return _png(image, {} if transparency is None else {"transparency": transparency})


def see_through() -> bytes:
    """A PNG with an alpha channel, from 0 to 255, over the wide picture."""
    image = Image.fromarray(picture("wide")).convert("RGBA")
    height, width = SIZES["wide"]
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))))
    return _png(image, {})


def _png(image: Image.Image, options: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def write_checkpoint(path: Path) -> Path:
    """A file as HPSv2 publishes it."""
    from open_clip.model import CLIP

    torch.save({"state_dict": state_of(CLIP(**SHAPE).state_dict())}, path)
    return path


def write_folder(folder: Path) -> Path:
    """A repository as CLIPScore, PickScore and Aesthetic need it: model, preprocessor, tokenizer, predictor."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(exist_ok=True)
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**common, "vocab_size": _write_tokenizer(folder), "eos_token_id": 2, "projection_dim": 768}
    vision = {**common, "image_size": SIDE, "patch_size": 8, "projection_dim": 768}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))
    model.load_state_dict(state_of(model.state_dict()))
    model.save_pretrained(folder)
    # As OpenAI publishes it.
    preprocessor = {"crop_size": SIDE, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
                    "feature_extractor_type": "CLIPFeatureExtractor", "size": SIDE,
                    "image_mean": [0.48145466, 0.4578275, 0.40821073],
                    "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    torch.save(state_of(predictor()), folder / "aesthetic-model.pth")
    return folder


def predictor() -> dict[str, torch.Tensor]:
    """Names and shapes of sac+logos+ava1-l14-linearMSE.pth."""
    wide = {"0": (768, 1024), "2": (1024, 128), "4": (128, 64), "6": (64, 16), "7": (16, 1)}
    weights = {f"layers.{at}.weight": torch.empty(n, m) for at, (m, n) in wide.items()}
    return weights | {f"layers.{at}.bias": torch.empty(n) for at, (_, n) in wide.items()}


def _write_tokenizer(folder: Path) -> int:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    merges = ["c a", "ca t</w>", "d o", "o n</w>"]
    words = [*letters, *(letter + "</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    vocabulary = {word: at for at, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    made = CLIPTokenizer(vocabulary, [tuple(pair.split()) for pair in merges])
    made.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)
