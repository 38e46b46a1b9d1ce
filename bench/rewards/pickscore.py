"""The `pickscore` proxy: a small learned preference model, trained on pairs that the gold oracles labelled.

`bench.tiny.preference` trains it. Like PickScore it is a network that has seen a limited world: off its training
pictures its opinion is unfounded, and a generator can find that.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.rewards.proxy import Pictures, Proxy, Target, Values
from bench.tiny.grammar import ALPHABET, all_prompts
from gold_metrics.scorer import Entry

WEIGHTS = Path(__file__).parents[1] / "tiny" / "weights" / "preference.safetensors"
CHUNK = 256  # pictures per forward: activations stay within 64 MB
MAX_WORDS = 8  # "a red circle left of a blue square"
# Our choice: numbers that look like PickScore's (Table 1: 21 to 24), and only look so.
REAL_MEAN = 22.0
_WORD = re.compile(r"\w+")


def _split(prompt: str) -> list[str]:
    """The prompt's words, a quoted text as its letters."""
    before, _, rest = prompt.partition('"')
    text, _, after = rest.partition('"')
    return [*_WORD.findall(before.lower()), *text.upper().replace(" ", ""), *_WORD.findall(after.lower())]


VOCABULARY = sorted({word for prompt, _ in all_prompts() for word in _split(prompt)} | set(ALPHABET))
_INDEX = {word: 1 + i for i, word in enumerate(VOCABULARY)}  # 0: nothing, or a word never seen
_WORDS = 1 + len(VOCABULARY)


def tokens(prompts: list[str]) -> Tensor:
    """(B, MAX_WORDS) int64: a row number for each word at each position: a sum keeps the order."""
    rows = torch.zeros(len(prompts), MAX_WORDS, dtype=torch.int64)
    for row, prompt in zip(rows, prompts, strict=True):
        known = [_INDEX.get(word, 0) for word in _split(prompt)[:MAX_WORDS]]
        row[: len(known)] = torch.tensor(known)
    return rows + _WORDS * torch.arange(MAX_WORDS)


def pixels(images: Pictures) -> Tensor:
    """(B, 3, 32, 32) float32 in [-1, 1] of (B, 32, 32, 3) uint8 pictures."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


class PreferenceModel(nn.Module):
    """Scores a picture for a prompt: a convolutional trunk whose channels the prompt scales and shifts.

    `center` and `spread` bring the Bradley-Terry logit to PickScore's looks and are set after training.
    """

    center: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(MAX_WORDS * _WORDS, 32, mode="sum")
        self.prompt = nn.Sequential(nn.SiLU(), nn.Linear(32, 64), nn.SiLU())
        first = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU()]
        self.edges = nn.Sequential(*first, nn.Conv2d(16, 32, 3, 1, 1), nn.BatchNorm2d(32))
        self.parts = nn.Sequential(nn.SiLU(), nn.Conv2d(32, 40, 3, 2, 1), nn.BatchNorm2d(40))
        last = [nn.Conv2d(40, 32, 3, 2, 1), nn.BatchNorm2d(32)]
        self.places = nn.Sequential(nn.SiLU(), *last, nn.SiLU(), nn.Flatten())
        self.modulate_edges = nn.Linear(64, 2 * 32)
        self.modulate_parts = nn.Linear(64, 2 * 40)
        self.head = nn.Sequential(nn.Linear(32 * 16 + 64, 48), nn.SiLU(), nn.Linear(48, 1))
        self.register_buffer("center", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))

    def forward(self, pictures: Tensor, words: Tensor) -> Tensor:
        """Bradley-Terry logits (B,) of pictures (B, 3, 32, 32) for prompts `tokens(...)` (B, MAX_WORDS)."""
        prompt = self.prompt(self.words(words))
        seen = _modulate(self.edges(pictures), self.modulate_edges(prompt))
        seen = _modulate(self.parts(seen), self.modulate_parts(prompt))
        logit: Tensor = self.head(torch.cat([self.places(seen), prompt], dim=1)).squeeze(1)
        return logit


def _modulate(maps: Tensor, scale_and_shift: Tensor) -> Tensor:
    scale, shift = scale_and_shift[..., None, None].chunk(2, dim=1)
    return maps * (1 + scale) + shift


@torch.inference_mode()
def logits(model: PreferenceModel, images: Pictures, prompts: list[str]) -> Values:
    """Bradley-Terry logits (N,) float64 of (N, 32, 32, 3) uint8 pictures, in chunks."""
    parts = [slice(i, i + CHUNK) for i in range(0, len(images), CHUNK)]
    values = [model(pixels(images[part]), tokens(prompts[part])) for part in parts]
    return np.asarray(torch.cat(values).double().numpy())


def load_model(weights: Path) -> PreferenceModel:
    """The trained model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not hold this model's weights.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"the preference model's weights are missing: {weights}; make them with `python -m bench.tiny.build`"
        )
    model = PreferenceModel()
    try:
        model.load_state_dict(load_file(weights))
    except Exception as error:
        raise ValueError(
            f"{weights} does not hold the preference model ({str(error).splitlines()[0]}); "
            "make it again with `python -m bench.tiny.build`"
        ) from error
    return model.eval()


class PickScore(Proxy):
    """The preference model's opinion, on a scale that looks like PickScore's: real renders average REAL_MEAN.

    One unit is the standard deviation over the held-out pictures of its training world, real and damaged.
    """

    name = "pickscore"
    head = "PickScore"
    range = (-math.inf, math.inf)

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._model = load_model(weights)
        self._sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()

    @property
    def definition(self) -> dict[str, Any]:
        """The weights and what is made of their logit."""
        value = "center + spread * Bradley-Terry logit"
        return {"scorer": "tiny pickscore", "weights_sha256": self._sha256, "value": value}

    def fits(self, entry: Entry) -> bool:
        """Every prompt."""
        return True

    def _lack(self, entry: Entry) -> str:
        return "" if entry.prompt.strip() else "the prompt is empty"

    def _fit_rewards(self, images: Pictures, prompts: list[str], targets: list[Target | None]) -> Values:
        scale = float(self._model.spread)
        return np.asarray(float(self._model.center) + scale * logits(self._model, images, prompts))
