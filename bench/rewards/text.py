"""The `text` proxy: template OCR, judged by edit distance as flow_grpo judges PaddleOCR's reading.

It correlates the glyphs with the gray picture at every place, whatever the contrast and its sign. It is blind to
the background's color, to noise and to strokes away from the letters it reads, and forgives letters around the
wanted ones.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from bench.rewards.proxy import Pictures, Proxy, Target, Values
from bench.tiny.grammar import ALPHABET
from bench.tiny.render import GLYPH_SCALE, glyph
from gold_metrics.scorer import Entry

MIN_CORRELATION = 0.7  # our choice: real letters reach 1, strokes between letters stay below 0.65
MAX_LETTERS = 4  # our choice: twice the letters of a prompt; a 32-pixel picture holds six
MIN_DEVIATION = 1.0  # gray levels of 255: a flatter window holds no letter
CHUNK = 256  # pictures per matrix product: keeps the windows within a core's cache and memory small
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_QUOTED = re.compile(r'"([^"]+)"')
_ROWS, _COLUMNS = glyph(ALPHABET[0]).shape  # dots of a glyph


def _templates() -> NDArray[np.float32]:
    """The alphabet's glyphs of 35 dots with mean 0 and norm 1: (35, letters)."""
    dots = np.stack([glyph(letter).ravel() for letter in ALPHABET])
    centered = dots - dots.mean(axis=1, keepdims=True)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    return np.asarray(unit.T, dtype=np.float32)


_TEMPLATES = _templates()


def correlations(images: Pictures) -> NDArray[np.float32]:
    """Normalised cross-correlation of every glyph with every window, sign dropped.

    A glyph's dot is GLYPH_SCALE pixels wide, so a window is first averaged to its 7x5 dots.

    Args:
        images: (N, 32, 32, 3) uint8.

    Returns:
        (N, 19, 23, letters): top row, left column, letter of ALPHABET; values in [0, 1].
    """
    gray = images.astype(np.float32) @ _LUMA
    dots = sliding_window_view(gray, (GLYPH_SCALE, GLYPH_SCALE), axis=(1, 2)).mean(axis=(3, 4))
    span = (GLYPH_SCALE * (_ROWS - 1) + 1, GLYPH_SCALE * (_COLUMNS - 1) + 1)
    windows = sliding_window_view(dots, span, axis=(1, 2))[..., ::GLYPH_SCALE, ::GLYPH_SCALE]
    n, tops, lefts = windows.shape[:3]
    flat = windows.reshape(n, tops, lefts, _ROWS * _COLUMNS)
    deviation = flat.std(axis=-1)
    norm = np.maximum(deviation, MIN_DEVIATION) * np.float32(np.sqrt(_ROWS * _COLUMNS))
    return np.asarray(abs(flat @ _TEMPLATES) / norm[..., None])


def _read_chunk(images: Pictures) -> list[str]:
    """Greedy reading: the best window, then the best clear of it, up to MAX_LETTERS; from left to right."""
    scores = correlations(images)
    best, letter = scores.max(axis=-1), scores.argmax(axis=-1)
    n, tops, lefts = best.shape
    rows, everyone = np.arange(n), np.arange(tops * lefts)
    y, x = np.divmod(everyone, lefts)
    flat = best.reshape(n, -1)
    letters: list[list[tuple[int, str]]] = [[] for _ in range(n)]
    for _ in range(MAX_LETTERS):
        place = flat.argmax(axis=1)
        clear = flat[rows, place] >= MIN_CORRELATION
        for i in np.flatnonzero(clear).tolist():
            letters[i].append((int(x[place[i]]), ALPHABET[letter[i].flat[place[i]]]))
        near_x = abs(x - x[place][:, None]) < GLYPH_SCALE * _COLUMNS
        near_y = abs(y - y[place][:, None]) < GLYPH_SCALE * _ROWS
        flat[near_x & near_y] = 0
    return ["".join(name for _, name in sorted(found)) for found in letters]


def read(images: Pictures) -> list[str]:
    """The letters seen in each of (N, 32, 32, 3) uint8 pictures, from left to right; empty for none."""
    return [text for i in range(0, len(images), CHUNK) for text in _read_chunk(images[i : i + CHUNK])]


def wanted_text(prompt: str) -> str:
    """The part between the prompt's first two double quotes (flow_grpo ocr.py:31-61); empty without."""
    match = _QUOTED.search(prompt)
    return match.group(1) if match else ""


def text_reward(seen: str, wanted: str) -> float:
    """1 - min(distance, L) / L with the edit distance of `seen` to `wanted` of L letters, in [0, 1].

    flow_grpo ocr.py:31-61: spaces and case do not count; the distance is 0 where `wanted` is part of `seen`.
    """
    seen, wanted = (text.replace(" ", "").lower() for text in (seen, wanted))
    if wanted in seen:
        return 1.0
    return 1 - min(Levenshtein.distance(seen, wanted), len(wanted)) / len(wanted)


class Text(Proxy):
    """flow_grpo's text reward, in [0, 1], on the reading of a template OCR."""

    name = "text"
    head = "Text"

    @property
    def definition(self) -> dict[str, Any]:
        """The reader's thresholds and the rule."""
        return {
            "scorer": "tiny text",
            "alphabet": ALPHABET,
            "min_correlation": MIN_CORRELATION,
            "max_letters": MAX_LETTERS,
            "min_deviation": MIN_DEVIATION,
            "value": "1 - min(edit distance, length) / length, 1 where the text is a part of the reading",
        }

    def fits(self, entry: Entry) -> bool:
        """Whether the prompt has a quoted text."""
        return bool(wanted_text(entry.prompt).replace(" ", ""))

    def _fit_rewards(self, images: Pictures, prompts: list[str], targets: list[Target | None]) -> Values:
        pairs = zip(read(images), prompts, strict=True)
        return np.array([text_reward(seen, wanted_text(prompt)) for seen, prompt in pairs])
