"""What the tiny proxies share: checked batches, and NaN with a reason where there can be no reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.tiny.render import SIDE
from gold_metrics.scorer import Entry, Score, missing

Pictures = NDArray[np.uint8]
Target = dict[str, Any]
Values = NDArray[np.float64]


def check_pictures(images: Pictures, prompts: Sequence[str], targets: Sequence[Target | None]) -> None:
    """Raise ValueError unless there are N pictures of the little world, N prompts and N targets."""
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"a proxy of the little world rewards uint8 pictures of shape (N, {SIDE}, {SIDE}, 3), "
            f"found {images.dtype} of shape {images.shape}: decode to uint8, channels last"
        )
    if not len(images) == len(prompts) == len(targets):
        raise ValueError(
            f"every picture needs its prompt and its target (None where there is none): "
            f"found {len(images)} pictures, {len(prompts)} prompts, {len(targets)} targets"
        )


class Proxy(ABC):
    """A per-image scorer (`gold_metrics.scorer.Scorer`) that can also reward a rollout in one batch.

    Attributes:
        name: the task's name, which is also the scorer's name in a score row.
        head: the head of its column in Table 1.
        range: (lowest, highest) value it can give.
    """

    name: str
    head: str
    higher_is_better = True
    range: tuple[float, float] = (0.0, 1.0)
    per: Literal["image", "set"] = "image"

    @property
    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """Every choice that changes a value (`gold_metrics.scorer.definition_hash`)."""

    @abstractmethod
    def fits(self, entry: Entry) -> bool:
        """Whether this proxy is for prompts of the entry's kind; see `gold_metrics.scorer.Scorer.fits`."""

    def _lack(self, entry: Entry) -> str:
        """What a fitting entry should have and has not; empty if nothing."""
        return ""

    def _fault(self, entry: Entry) -> str:
        """Why there is no reward for a picture of this entry; empty if there is one."""
        return self._lack(entry) if self.fits(entry) else f"{self.name} is not for prompts like {entry.prompt!r}"

    @abstractmethod
    def _fit_rewards(self, images: Pictures, prompts: list[str], targets: list[Target | None]) -> Values:
        """One value per picture, all prompts fit, N >= 1."""

    def rewards(self, images: Pictures, prompts: Sequence[str], targets: Sequence[Target | None]) -> Values:
        """Rewards of N pictures, in order.

        Args:
            images: (N, 32, 32, 3) uint8.
            prompts: N prompts.
            targets: N structured targets, None where a prompt has none.

        Returns:
            (N,) float64; NaN where the prompt does not fit or lacks something.

        Raises:
            ValueError: the pictures have another type or shape, or the three lengths differ.
        """
        check_pictures(images, prompts, targets)
        values = np.full(len(images), np.nan)
        entries = [Entry("", "", "", prompt, 0, target) for prompt, target in zip(prompts, targets, strict=True)]
        fit = [i for i, entry in enumerate(entries) if not self._fault(entry)]
        if fit:
            values[fit] = self._fit_rewards(images[fit], [prompts[i] for i in fit], [targets[i] for i in fit])
        return values

    def score(self, images: Sequence[Pictures], entries: Sequence[Entry]) -> list[Score]:
        """One Score per picture, in order: NaN and a reason where the prompt or the picture does not fit."""
        if len(images) != len(entries):
            raise ValueError(f"every picture needs its entry: found {len(images)} and {len(entries)}")
        reasons = [self._reason(*pair) for pair in zip(images, entries, strict=True)]
        fit = [i for i, reason in enumerate(reasons) if not reason]
        scores = [missing(reason) for reason in reasons]
        if fit:
            batch = np.stack([images[i] for i in fit])
            values = self.rewards(batch, [entries[i].prompt for i in fit], [entries[i].target for i in fit])
            for i, value in zip(fit, values.tolist(), strict=True):
                scores[i] = Score(value)
        return scores

    def _reason(self, image: Pictures, entry: Entry) -> str:
        if image.dtype != np.uint8 or image.shape != (SIDE, SIDE, 3):
            return f"{self.name} judges {SIDE}x{SIDE} uint8 pictures, found {image.dtype} {image.shape}"
        return self._fault(entry)
