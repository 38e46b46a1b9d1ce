"""Real pictures of the little world and graded damage to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from bench.tiny import grammar, render
from gold_metrics import Entry, Picture

CATEGORIES = ("single_object", "counting", "position", "colors", "text")
PER_SET = 6

Sets = list[tuple[dict[str, Any], int]]
"""(target, seed) of each picture: rendering it again with a changed target keeps background, places and sizes."""


def targets(category: str) -> list[dict[str, Any]]:
    return [target for _, target in grammar.all_prompts() if target["category"] == category]


def paint(target: dict[str, Any], seed: int) -> Picture:
    return render.render(target, np.random.default_rng(seed))


def entry(target: dict[str, Any] | None, prompt_id: str = "p", seed: int = 0) -> Entry:
    return Entry(file=f"{prompt_id}-{seed}.png", sha256="", prompt_id=prompt_id, prompt="", seed=seed, target=target)


def sample(category: str, count: int, seed: int = 0) -> Sets:
    rng = np.random.default_rng((seed, CATEGORIES.index(category)))
    members = targets(category)
    return [(members[rng.integers(len(members))], int(rng.integers(2**31))) for _ in range(count)]


def sixty() -> tuple[list[Picture], list[Entry], Sets]:
    """Two prompts of each category, six pictures of each."""
    pictures, entries, made = [], [], []
    for category in CATEGORIES:
        for target, seed in sample(category, 2):
            for number in range(PER_SET):
                pictures.append(paint(target, seed + number))
                entries.append(entry(target, prompt_id=f"{category}-{seed}", seed=seed + number))
                made.append((target, seed + number))
    return pictures, entries, made


def blurred(picture: Picture, width: float) -> Picture:
    soft = ndimage.gaussian_filter(picture.astype(np.float64), (width, width, 0), mode="nearest")
    return np.rint(soft).astype(np.uint8)


def softened(picture: Picture, rng: np.random.Generator) -> Picture:
    """What a decoder does: a 3x3 blur of half a pixel and noise of four units."""
    soft = ndimage.gaussian_filter(picture.astype(np.float64), (0.5, 0.5, 0), radius=1, mode="nearest")
    return noisy(soft, 4.0, rng)


def noisy(picture: np.ndarray, spread: float, rng: np.random.Generator) -> Picture:
    return np.clip(np.rint(picture + spread * rng.standard_normal(picture.shape)), 0, 255).astype(np.uint8)


def shifted(picture: Picture, amount: float) -> Picture:
    return np.clip(np.rint(picture + amount * np.array([1.0, -0.6, 0.4])), 0, 255).astype(np.uint8)


def striped(picture: Picture, amount: float) -> Picture:
    wave = np.where(np.arange(picture.shape[1]) % 4 < 2, amount, -amount)
    return np.clip(picture + wave[None, :, None], 0, 255).astype(np.uint8)


def without(picture: Picture, count: int) -> Picture:
    """The picture with `count` of its things or letters painted over."""
    background = np.median(picture, axis=(0, 1))
    labels, _ = ndimage.label((picture != background).any(axis=2), np.ones((3, 3)))
    gone = (labels > 0) & (labels <= count)
    return np.where(gone[..., None], background, picture).astype(np.uint8)


def _things(target: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, "count": 1} for each in target["objects"] for _ in range(each["count"])]


def _next(member: str, members: tuple[str, ...] | str) -> str:
    return members[(members.index(member) + 1) % len(members)]


def changed(target: dict[str, Any], count: int, key: str) -> dict[str, Any]:
    """The target with another color or shape for its first `count` things, or with other letters."""
    if target["family"] == "text":
        letters = [_next(c, grammar.ALPHABET) if i < count else c for i, c in enumerate(target["text"])]
        return {**target, "text": "".join(letters)}
    members = grammar.COLORS if key == "color" else grammar.SHAPES
    things = [{**t, key: _next(t[key], members)} if i < count else t for i, t in enumerate(_things(target))]
    return {**target, "objects": things}


def repeated(pictures: list[Picture], count: int) -> list[Picture]:
    """Each set's last `count` pictures replaced by its first."""
    first = [index - index % PER_SET for index in range(len(pictures))]
    return [pictures[first[i]] if i % PER_SET >= PER_SET - count else pictures[i] for i in range(len(pictures))]


Damage = Callable[[list[Picture], Sets, float], list[Picture]]


def _each(damage: Callable[..., Picture]) -> Damage:
    return lambda pictures, made, level: [damage(picture, level) for picture in pictures]


def _noise(pictures: list[Picture], made: Sets, level: float) -> list[Picture]:
    rng = np.random.default_rng(5)
    return [noisy(picture, level, rng) for picture in pictures]


def _wrong(key: str) -> Damage:
    return lambda pictures, made, level: [paint(changed(target, int(level), key), seed) for target, seed in made]


DAMAGES: dict[str, tuple[Damage, tuple[float, ...]]] = {
    "blur": (_each(blurred), (0, 0.4, 0.7, 1.0, 1.5, 2.2, 3.0)),
    "noise": (_noise, (0, 2, 4, 8, 16, 32, 64)),
    "color shift": (_each(shifted), (0, 4, 8, 16, 30, 60)),
    "stripes": (_each(striped), (0, 4, 8, 16, 32, 48)),
    "missing things": (_each(lambda picture, level: without(picture, int(level))), (0, 1, 2, 3)),
    "wrong colors": (_wrong("color"), (0, 1, 2, 3)),
    "wrong shapes": (_wrong("shape"), (0, 1, 2, 3)),
    "repetition": (lambda pictures, made, level: repeated(pictures, int(level)), (0, 1, 2, 3, 4, 5)),
}
