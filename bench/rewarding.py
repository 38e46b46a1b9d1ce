"""The proxy's scores of an epoch's images, made in a thread of its own while the next ones are sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from bench.members import Member
from gold_metrics.judging import BATCH
from gold_metrics.scorer import Entry, Score, Scorer


class RewardError(RuntimeError):
    """The proxy could not score a rollout."""


class Rewarding:
    """To be filled micro-batch by micro-batch; a judge that waits (for a server, for a CPU) holds up no sampling.

    The proxy sees the images of one micro-batch at a time, so that rewards, like latents, depend on its size alone and
    not on the number of ranks.
    """

    def __init__(self, proxy: Scorer, device: torch.device, *, overlap: bool = True) -> None:
        """Nothing is scored before `rewards` asks for it unless `overlap`.

        Args:
            device: the rank's own, which a new thread has to be told.
        """
        self._proxy, self._overlap = proxy, overlap
        begin = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, initializer=begin)
        self._waiting: list[tuple[tuple[int, ...], list[Entry], Callable[[], list[Score]]]] = []

    def __enter__(self) -> Rewarding:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, members: Sequence[Member], images: np.ndarray) -> None:
        """Has the images of these members scored, uint8 (B, F, H, W, 3)."""
        entries = [
            Entry("", "", m.prompt.id, m.prompt.text, m.index, m.prompt.target)
            for m in members
            for _ in range(images.shape[1])
        ]
        flat = list(images.reshape(-1, *images.shape[2:]))
        score = partial(self._score, flat, entries)
        self._waiting.append((images.shape[:2], entries, self._pool.submit(score).result if self._overlap else score))

    def _score(self, images: list[np.ndarray], entries: list[Entry]) -> list[Score]:
        starts = range(0, len(images), BATCH)
        return [
            score for at in starts for score in self._proxy.score(images[at : at + BATCH], entries[at : at + BATCH])
        ]

    def rewards(self) -> Tensor:
        """Of all members added, in their order, (B, F), once they are there.

        Raises:
            RewardError: the proxy could not score an image; training on a made-up number would be worse than stopping.
        """
        scored = [(shape, list(zip(entries, scores(), strict=True))) for shape, entries, scores in self._waiting]
        failed = [pair for _, pairs in scored for pair in pairs if np.isnan(pair[1].value)]
        if failed:
            entry, score = failed[0]
            raise RewardError(
                f"proxy {self._proxy.name} gave no reward to {len(failed)} of {sum(len(p) for _, p in scored)} images, "
                f"first for the prompt {entry.prompt!r}: {score.reason}"
            )
        parts = [torch.tensor([s.value for _, s in p], dtype=torch.float64).view(shape) for shape, p in scored]
        return torch.cat(parts)
