"""Aesthetic: how beautiful the picture is, whatever its prompt, by a linear stack on CLIP's embedding.

Source: improved-aesthetic-predictor (sac+logos+ava1-l14-linearMSE) as flow_grpo has it, aesthetic_scorer.py at 879042c.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gold_metrics.clip_models import PIL, Files, clip_model, define, device_of, fill, pil_pixels, pil_processor, scored
from gold_metrics.scorer import Entry, Picture, Score

if TYPE_CHECKING:
    import torch

MODEL, PREDICTOR = "openai/clip-vit-large-patch14", "trl-lib/ddpo-aesthetic-predictor"
PREDICTOR_FILE = "aesthetic-model.pth"

# aesthetic_scorer.py:18-27: widths and the shares dropped between them in training; no activation in between.
WIDTHS = (768, 1024, 128, 64, 16, 1)
DROPPED = (0.2, 0.2, 0.1, None, None)


class Aesthetic:
    """The predictor's number for the picture's embedding of length 1: about 1 to 10, without a bound."""

    name: ClassVar[str] = "aesthetic"
    head: ClassVar[str] = "Aesthetic"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self, device: str = "", checkpoint: Path | str | None = None, predictor: Path | str | None = None
    ) -> None:
        """The models are loaded by the first score, and once.

        Args:
            device: of torch; by default cuda where there is one.
            checkpoint: folder of the CLIP model; by default what `weights fetch` brought.
            predictor: folder of aesthetic-model.pth; by default the checkpoint's.

        Raises:
            WeightsError: a file is missing, or is not the one that was noted.
        """
        self.device = device_of(device)
        self.files = Files.of(self.name, {MODEL: checkpoint, PREDICTOR: predictor or checkpoint})

    @property
    def definition(self) -> dict[str, Any]:
        """Files with their hashes (the preprocessor's settings are one of them), precision and versions."""
        return define(self.name, self.files, PIL, "linear stack of the normalized image embedding", "pillow")

    def fits(self, entry: Entry) -> bool:
        """Every picture: the prompt is not looked at."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N numbers.

        Raises:
            WeightsError: the weights are not of these models; only the first call loads them.
        """
        return scored(images, entries, lambda image, entry: "", self._numbers)

    def _numbers(self, images: list[Picture], prompts: list[str]) -> torch.Tensor:
        import torch
        from torch.nn.functional import normalize

        model, processor, predictor = self._loaded
        with torch.inference_mode():
            pixels = pil_pixels(processor, images).to(self.device)
            # Since transformers 5 the embedding lies in an object.
            embedded = model.get_image_features(pixel_values=pixels).pooler_output
            numbers: torch.Tensor = predictor(normalize(embedded, dim=-1)).squeeze(1)
        return numbers

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, torch.nn.Module]:
        folder = self.files.folder(MODEL)
        predictor = linear_stack()
        fill(predictor, self.files.folder(PREDICTOR) / PREDICTOR_FILE)
        stack = predictor["layers"].to(self.device).eval()
        return clip_model(folder, self.device), pil_processor(folder), stack


def linear_stack() -> torch.nn.ModuleDict:
    """The predictor without weights; its names are those of the published file: layers.0, 2, 4, 6 and 7."""
    from torch import nn

    layers: list[nn.Module] = []
    for (wide, narrow), dropped in zip(itertools.pairwise(WIDTHS), DROPPED, strict=True):
        layers += [nn.Linear(wide, narrow), *([nn.Dropout(dropped)] if dropped else [])]
    return nn.ModuleDict({"layers": nn.Sequential(*layers)})
