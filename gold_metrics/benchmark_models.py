"""The models that the benchmark times, with random weights, and what their upstream code would do with them."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gold_metrics.hpsv2 import VIT_H_14, HPSv2
from gold_metrics.image_reward import ImageReward, Vision, load_tokenizer
from gold_metrics.image_reward import preprocess as image_reward_pixels
from gold_metrics.preprocess import fit, normalize, unit
from gold_metrics.scorer import Entry, Picture, Scorer
from gold_metrics.torchvision_repair import repair

One = Callable[[Picture, Entry], float]
"""Scores one picture."""

# BERT's sizes in BLIP (open-mmlab/mmpretrain configs/blip/blip-base_8xb32_ocrvqa.py, med_config).
BERT: dict[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "add_cross_attention": True,
}


@dataclass(frozen=True)
class Size:
    """Of the models: open_clip's JSON for HPSv2's, vision and text model of ImageReward's."""

    clip: dict[str, Any]
    vision: Vision
    bert: dict[str, Any]


FULL = Size(VIT_H_14, Vision(), BERT)

# Our choice: the published pictures and vocabularies, transformers so small that one core needs under a minute.
SMALL = Size(
    {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 224, "layers": 4, "width": 128, "head_width": 32, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 4},
    },
    Vision(patch=32, width=128, depth=4, heads=4),
    BERT | {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4},
)


@dataclass(frozen=True)
class Contest:
    """A judge and its upstream way.

    Attributes:
        parameters: how many weights its checkpoint has.
        way: what is different upstream.
        upstream: makes the function that scores upstream's way.
        preprocess: from a picture to the model's input, which both sides need.
    """

    scorer: Scorer
    parameters: int
    way: str
    upstream: Callable[[], One]
    preprocess: Callable[[Picture], object]


def hpsv2(size: Size, folder: Path, device: str) -> Contest:
    """One call for all pictures, against a checkpoint read for each."""
    repair()
    from open_clip.model import CLIP

    checkpoint, side = folder / "hpsv2.pt", size.clip["vision_cfg"]["image_size"]
    state = CLIP(**size.clip).state_dict()
    torch.save({"state_dict": state}, checkpoint)
    return Contest(
        HPSv2(checkpoint=checkpoint, shape=size.clip, device=device),
        sum(value.numel() for value in state.values()),
        "checkpoint read per picture",
        lambda: rereading(size.clip, checkpoint, device),
        lambda image: normalize(fit(unit(image), side)),
    )


def rereading(shape: dict[str, Any], checkpoint: Path, device: str) -> One:
    """HPSv2 with its model kept and its checkpoint read for every picture, as hpsv2/img_score.py:46-81 does."""
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    model: Any = CLIP(**shape).to(device).eval()
    tokens = SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])

    def score(image: Picture, entry: Entry) -> float:
        model.load_state_dict(torch.load(checkpoint, map_location=device, weights_only=True)["state_dict"])
        pixels = normalize(fit(unit(image), shape["vision_cfg"]["image_size"]))[None]
        with torch.inference_mode():
            seen, said = model(pixels.to(device), tokens([entry.prompt]).to(device))[:2]
            return float((seen @ said.T).item())

    return score


def image_reward(size: Size, folder: Path, device: str) -> Contest:
    """One call for all pictures, against a call for each."""
    repair()
    from gold_metrics import image_reward_package

    config, words = folder / "med_config.json", folder / "vocab.txt"
    config.write_text(json.dumps(size.bert))
    words.write_text(
        "\n".join(
            [
                "[PAD]",
                "[UNK]",
                "[CLS]",
                "[SEP]",
                "[MASK]",
                *string.ascii_lowercase,
                *(f"##{each}" for each in string.ascii_lowercase),
            ]
        )
    )
    model = image_reward_package.create(size.vision, config, load_tokenizer(words), torch.device("cpu"))
    torch.save(model.state_dict(), folder / "ImageReward.pt")
    scorer = ImageReward(folder=folder, vision=size.vision, device=device)
    return Contest(
        scorer,
        sum(value.numel() for value in model.parameters()),
        "one picture per call",
        lambda: lambda image, entry: scorer.score([image], [entry])[0].value,
        lambda image: image_reward_pixels([image], size.vision.size),
    )
