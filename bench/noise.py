"""All randomness of a run, as a function of coordinates and never of the order of calls.

A draw is named by (seed, stream, epoch, prompt, member, step). It is made on the CPU by a counter-based generator
keyed with a hash of that name, so it is the same on every device, for every micro-batch, number of ranks and method,
and after a restart. Streams: `initial` and `sde` noise of rollouts, `evaluation` noise, `subset` (which steps a
member trains, which half of an epoch it belongs to) and `prompts` (which prompts an epoch takes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Stream = Literal["initial", "sde", "evaluation", "subset", "prompts"]


class Coordinates(NamedTuple):
    """The name of one draw; `prompt` is a prompt's id, numbers that do not apply are 0."""

    seed: int
    stream: Stream
    epoch: int = 0
    prompt: str = ""
    member: int = 0
    step: int = 0


def generator(at: Coordinates) -> np.random.Generator:
    """A fresh generator for the draw named `at`."""
    digest = hashlib.blake2b(repr(tuple(at)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def normal(at: Coordinates, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 of `shape`."""
    return torch.from_numpy(generator(at).standard_normal(tuple(shape), dtype=np.float32))


def uniform(at: Coordinates, count: int) -> Tensor:
    """`count` numbers in [0, 1), float64."""
    return torch.from_numpy(generator(at).random(count))


def fingerprint(seed: int, prompt: str, shape: Sequence[int]) -> str:
    """Hash of the noise at a few fixed coordinates: runs that agree in it had the same noise at every coordinate."""
    digest = hashlib.sha256()
    for stream in ("initial", "sde", "evaluation"):
        for epoch, member, step in ((0, 0, 0), (0, 1, 0), (1, 0, 1)):
            digest.update(normal(Coordinates(seed, stream, epoch, prompt, member, step), shape).numpy().tobytes())
    return digest.hexdigest()[:16]
