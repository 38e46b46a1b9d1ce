"""Pictures as the CLIP judges take them: plain torch, so that no version of torchvision decides about antialiasing."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate, pad

from gold_metrics.scorer import Picture

# CLIP's mean and standard deviation of the three channels (HPSv2 hpsv2/src/open_clip/constants.py:1-2 at
# 866735e; the same in every judge of this family).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def unit(picture: Picture) -> torch.Tensor:
    """uint8 (height, width, 3) -> float32 (3, height, width) in [0, 1]."""
    return torch.tensor(picture).permute(2, 0, 1).float() / 255


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """(3, height, width) in [0, 1] -> the same in standard deviations from CLIP's mean."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pixels - mean) / std


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width when the longest side becomes `side`; 0 where a picture is too thin for one pixel."""
    scale = side / max(height, width)
    return round(height * scale), round(width * scale)


def fit(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """The whole picture in a square: longest side to `side`, bicubic with antialiasing, black around it.

    HPSv2's `ResizeMaxSize` (hpsv2/src/open_clip/transform.py:26-49 at 866735e). That one forgets the black where the
    longest side is `side` already, and its model then refuses the picture; here it is scored.

    Args:
        pixels: float32 (3, height, width) in [0, 1]; `fitted` must not be 0.

    Returns:
        float32 (3, side, side); bicubic interpolation may leave [0, 1] a little, as HPSv2's does.
    """
    height, width = pixels.shape[1:]
    high, wide = fitted(height, width, side)
    if (high, wide) != (height, width):
        pixels = interpolate(pixels[None], size=(high, wide), mode="bicubic", antialias=True)[0]
    left, top = (side - wide) // 2, (side - high) // 2
    return pad(pixels, (left, side - wide - left, top, side - high - top))


def cover(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of the picture: shortest side to `side`, bilinear with antialiasing, then cut to a square.

    What `T.Resize` and `T.CenterCrop` do to a tensor (flow_grpo flow_grpo/clip_scorer.py:22-28 at 879042c).

    Args:
        pixels: float32 (3, height, width) in [0, 1].

    Returns:
        float32 (3, side, side).
    """
    height, width = pixels.shape[1:]
    shortest = min(height, width)
    high, wide = int(side * height / shortest), int(side * width / shortest)
    if shortest != side:
        pixels = interpolate(pixels[None], size=(high, wide), mode="bilinear", antialias=True)[0]
    top, left = round((high - side) / 2), round((wide - side) / 2)
    return pixels[:, top : top + side, left : left + side]
