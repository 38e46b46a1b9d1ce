"""The averaged adapter that evaluation uses, on flow_grpo's schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Ema:
    """Exponential average of parameters: every `interval` updates with decay min((1 + n) / (10 + n), `decay`).

    Source: flow_grpo flow_grpo/ema.py at 879042c, where n is the update. There it is called after every micro-batch
    of such an update; here once.
    """

    def __init__(self, parameters: list[Tensor], decay: float, interval: int) -> None:
        self.parameters, self.decay, self.interval = parameters, decay, interval
        self.average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """To be called after optimizer update `n`, counted from 1."""
        if n % self.interval:
            return
        weight = 1 - min((1 + n) / (10 + n), self.decay)
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter, weight)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The averaged weights stand in the model inside this context; the trained ones come back bit for bit."""
        kept = [p.detach().clone() for p in self.parameters]
        self._put(self.average)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
