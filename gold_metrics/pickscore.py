"""PickScore: which of two pictures a user would pick for a prompt, by a CLIP trained on such picks.

Source: Kirstain et al. 2023 (arXiv 2305.01569), repository yuvalkirstain/PickScore, README at f79607f.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gold_metrics.clip_models import (
    PIL,
    Files,
    clip_model,
    define,
    device_of,
    logits,
    no_prompt,
    pil_pixels,
    pil_processor,
    scored,
    tokenizer,
)
from gold_metrics.scorer import Entry, Picture, Score

if TYPE_CHECKING:
    import torch

# flow_grpo pickscore_scorer.py:8-9 at 879042c: the model, and whose preprocessing and tokens it was trained with.
MODEL, PROCESSOR = "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class PickScore:
    """exp(logit_scale) * cosine of the picture's and the prompt's embeddings (PickScore README:61-90).

    The scale of published tables, about 20. Training code of flow_grpo divides it by 26 (pickscore_scorer.py:49); this
    does not.
    """

    name: ClassVar[str] = "pickscore"
    head: ClassVar[str] = "PickScore"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self, device: str = "", checkpoint: Path | str | None = None, processor: Path | str | None = None
    ) -> None:
        """The model is loaded by the first score, and once.

        Args:
            device: of torch; by default cuda where there is one.
            checkpoint: folder of the model; by default what `weights fetch` brought.
            processor: folder of preprocessor and tokenizer; by default the checkpoint's.

        Raises:
            WeightsError: a file is missing, or is not the one that was noted.
        """
        self.device = device_of(device)
        self.files = Files.of(self.name, {MODEL: checkpoint, PROCESSOR: processor or checkpoint})

    @property
    def definition(self) -> dict[str, Any]:
        """Files with their hashes (the preprocessor's settings are one of them), precision and versions."""
        return define(self.name, self.files, PIL, "exp(logit_scale) * cosine", "pillow")

    def fits(self, entry: Entry) -> bool:
        """Every picture; one without a prompt is counted as missing."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N logits; NaN without a prompt. Prompts are cut at 77 tokens.

        Raises:
            WeightsError: the weights are not a whole CLIP model; only the first call loads them.
        """
        return scored(images, entries, no_prompt, self._logits)

    def _logits(self, images: list[Picture], prompts: list[str]) -> torch.Tensor:
        model, processor, words = self._loaded
        return logits(model, words, pil_pixels(processor, images), prompts)

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        folder = self.files.folder(PROCESSOR)
        return clip_model(self.files.folder(MODEL), self.device), pil_processor(folder), tokenizer(folder)
