"""CLIPScore: how well the picture matches its prompt, by OpenAI's CLIP ViT-L/14.

Defined as where it is used beside the other gold scores: DiffusionNFT's clip_scorer.py at 24af555 (flow_grpo's, from
which it comes, divides by 30 instead of 100). It resizes the tensor by `T.Resize`, bilinear, and not as CLIP's own
processor, bicubic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gold_metrics.clip_models import Files, clip_model, define, device_of, logits, no_prompt, scored, tokenizer
from gold_metrics.scorer import Entry, Picture, Score

if TYPE_CHECKING:
    import torch

MODEL = "openai/clip-vit-large-patch14"

# DiffusionNFT clip_scorer.py at 24af555: CLIP's logit scale is 100, so the number is a cosine.
DIVISOR = 100.0


class ClipScore:
    """exp(logit_scale) * cosine / 100 of the picture's and the prompt's embeddings."""

    name: ClassVar[str] = "clip_score"
    head: ClassVar[str] = "CLIPScore"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(self, device: str = "", checkpoint: Path | str | None = None) -> None:
        """The model is loaded by the first score, and once.

        Args:
            device: of torch; by default cuda where there is one.
            checkpoint: folder of model and tokenizer; by default what `weights fetch` brought.

        Raises:
            WeightsError: a file is missing, or is not the one that was noted.
        """
        self.device = device_of(device)
        self.files = Files.of(self.name, {MODEL: checkpoint})

    @property
    def definition(self) -> dict[str, Any]:
        """Files with their hashes, preprocessing, precision and versions."""
        from gold_metrics.preprocess import MEAN, STD

        resize = "shortest side to the model's on the tensor, bilinear, then center crop"
        preprocessing = {"resize": resize, "antialias": True, "mean": MEAN, "std": STD}
        return define(self.name, self.files, preprocessing, f"exp(logit_scale) * cosine / {DIVISOR}")

    def fits(self, entry: Entry) -> bool:
        """Every picture; one without a prompt is counted as missing."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N numbers, cosines with the published weights; NaN without a prompt. Prompts are cut at 77 tokens.

        Raises:
            WeightsError: the weights are not a whole CLIP model; only the first call loads them.
        """
        return scored(images, entries, no_prompt, self._numbers)

    def _numbers(self, images: list[Picture], prompts: list[str]) -> torch.Tensor:
        import torch

        from gold_metrics.preprocess import cover, normalize, unit

        model, words = self._loaded
        side = model.config.vision_config.image_size
        pixels = torch.stack([normalize(cover(unit(image), side)) for image in images])
        return logits(model, words, pixels, prompts) / DIVISOR

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        folder = self.files.folder(MODEL)
        return clip_model(folder, self.device), tokenizer(folder)
