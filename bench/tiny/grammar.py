"""The prompts of the little world: GenEval's object categories and two-letter text.

A prompt's target is its meaning as data: what a judge needs to know to check a picture without reading English.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

COLORS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle")
NUMBERS = {2: "two", 3: "three"}
RELATIONS = ("left of", "right of", "above", "below")
# Eleven glyphs: with fewer, the texts that are not held out are learned as whole words, and no other text is painted.
# No two of them end one of the grammar's words ("FT" would), so byte pairs keep them apart.
ALPHABET = "ACFHKLX2479"

# One prompt in five of the categories with many members is never trained on: neither the generators nor the rewards.
HELD_OUT_SHARE = 5

Target = dict[str, Any]


def _things(color: str, shape: str, count: int = 1) -> dict[str, Any]:
    return {"color": color, "shape": shape, "count": count}


def _objects(category: str, objects: list[dict[str, Any]], relation: str | None = None) -> Target:
    return {"family": "objects", "category": category, "objects": objects, "relation": relation}


def objects_prompts() -> list[tuple[str, Target]]:
    """Single objects, counts and relations, in a fixed order: (prompt, target)."""
    kinds = list(itertools.product(COLORS, SHAPES))
    single = [(f"a {c} {s}", _objects("single_object", [_things(c, s)])) for c, s in kinds]
    counting = [
        (f"{word} {c} {s}s", _objects("counting", [_things(c, s, n)]))
        for (c, s), (n, word) in itertools.product(kinds, NUMBERS.items())
    ]
    position = [
        (f"a {a[0]} {a[1]} {relation} a {b[0]} {b[1]}", _objects("position", [_things(*a), _things(*b)], relation))
        for a, b, relation in itertools.product(kinds, kinds, RELATIONS)
        if a != b
    ]
    return single + counting + position


def colors_prompts() -> list[tuple[str, Target]]:
    """Two objects of different colors, in a fixed order: (prompt, target)."""
    kinds = list(itertools.product(COLORS, SHAPES))
    return [
        (f"a {a[0]} {a[1]} and a {b[0]} {b[1]}", _objects("colors", [_things(*a), _things(*b)]))
        for a, b in itertools.product(kinds, kinds)
        if a[0] != b[0]
    ]


def text_prompts() -> list[tuple[str, Target]]:
    """Every two-letter text of the alphabet, in a fixed order: (prompt, target)."""
    words = ("".join(pair) for pair in itertools.product(ALPHABET, repeat=2))
    return [(f'the text "{word}"', {"family": "text", "category": "text", "text": word}) for word in words]


def held_out(prompt: str, target: Target) -> bool:
    """Whether a prompt is kept for evaluation: one in five by its hash; every single object and count is trained on."""
    if target["category"] in ("single_object", "counting"):
        return False
    return hashlib.sha256(prompt.encode()).digest()[0] % HELD_OUT_SHARE == 0


def all_prompts() -> list[tuple[str, Target]]:
    """Every prompt of the little world, in a fixed order: (prompt, target)."""
    return objects_prompts() + colors_prompts() + text_prompts()
