"""Paints a target of the little world as a 32x32 picture, at one of a few places, with free size and background."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
PALETTE = {"red": (214, 48, 49), "green": (38, 160, 74), "blue": (41, 98, 214), "yellow": (240, 200, 40)}
BACKGROUNDS = {"white": (242, 242, 242), "gray": (168, 170, 176), "dark": (46, 46, 56)}
INK = {"white": (20, 20, 24), "gray": (20, 20, 24), "dark": (250, 250, 250)}
RADIUS = (5, 7)  # pixels, whole numbers
# Pixels between places: a patch of the transformers. A flow of this size paints what falls on its patches, and smears
# what may fall between them.
GRID = 8
# Where things and letters stand, as centers (x, y), and by how many grid places all of them together may stray
# right/left and up/down.
LAYOUTS = {
    "center": ([(16, 16)], (1, 1)),
    "row": ([(8, 16), (24, 16)], (0, 1)),
    "column": ([(16, 8), (16, 24)], (1, 0)),
    "two above one": ([(8, 8), (24, 8), (16, 24)], (0, 0)),
    "one above two": ([(16, 8), (8, 24), (24, 24)], (0, 0)),
}
BY_COUNT = {1: ("center",), 2: ("row", "column"), 3: ("two above one", "one above two")}
BY_RELATION = {"left of": ("row",), "right of": ("row",), "above": ("column",), "below": ("column",)}
BY_LETTERS = {1: ("center",), 2: ("row",)}
GLYPH_SCALE = 2

GLYPHS = {
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "C": ".#### #.... #.... #.... #.... #.... .####",
    "F": "##### #.... #.... ####. #.... #.... #....",
    "H": "#...# #...# #...# ##### #...# #...# #...#",
    "K": "#...# #..#. #.#.. ##... #.#.. #..#. #...#",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "X": "#...# #...# .#.#. ..#.. .#.#. #...# #...#",
    "2": ".###. #...# ....# ...#. ..#.. .#... #####",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "7": "##### ....# ...#. ..#.. ..#.. .#... .#...",
    "9": ".###. #...# #...# .#### ....# ....# .###.",
}

Picture = NDArray[np.uint8]
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64) + 0.5


def glyph(letter: str) -> NDArray[np.float64]:
    """A letter as a (7, 5) array of 0 and 1."""
    return np.array([[dot == "#" for dot in row] for row in GLYPHS[letter].split()], dtype=np.float64)


def _circle(x: float, y: float, r: float) -> NDArray[np.float64]:
    return np.hypot(_X - x, _Y - y) - r


def _square(x: float, y: float, r: float) -> NDArray[np.float64]:
    return np.maximum(abs(_X - x), abs(_Y - y)) - 0.9 * r


def _triangle(x: float, y: float, r: float) -> NDArray[np.float64]:
    slope = (2 * abs(_X - x) - (_Y - (y - r))) / np.sqrt(5)  # apex up, as wide as high
    return np.maximum(slope, _Y - (y + r))


DISTANCE = {"circle": _circle, "square": _square, "triangle": _triangle}  # signed, in pixels, negative inside


def _places(layouts: tuple[str, ...], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Centers (x, y) in pixels, by one of the layouts."""
    anchors, sway = LAYOUTS[str(rng.choice(layouts))]
    right, down = (GRID * int(rng.integers(-most, most + 1)) for most in sway)
    return [(x + right, y + down) for x, y in anchors]


def _paint(canvas: NDArray[np.float64], cover: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    canvas += cover[..., None] * (np.array(color) - canvas)


def _things(target: dict[str, Any], rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Cover and color of each thing; the first stands where the relation wants it."""
    things = [(o["color"], o["shape"]) for o in target["objects"] for _ in range(o["count"])]
    relation = target["relation"]
    places = _places(BY_RELATION[relation] if relation else BY_COUNT[len(things)], rng)
    ordered = places[::-1] if relation in ("right of", "below") else places
    for (color, shape), (x, y) in zip(things, ordered, strict=True):
        radius = float(rng.integers(RADIUS[0], RADIUS[1] + 1))
        yield np.clip(0.5 - DISTANCE[shape](x, y, radius), 0, 1), color


def _letters(text: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cover of the letters, their dots on whole multiples of their size."""
    cover = np.zeros((SIDE, SIDE))
    for letter, (x, y) in zip(text, _places(BY_LETTERS[len(text)], rng), strict=True):
        dots = np.kron(glyph(letter), np.ones((GLYPH_SCALE, GLYPH_SCALE)))
        height, width = dots.shape
        top, left = ((c - size // 2) // GLYPH_SCALE * GLYPH_SCALE for c, size in ((y, height), (x, width)))
        cover[top : top + height, left : left + width] = dots
    return cover


def render(target: dict[str, Any], rng: np.random.Generator) -> Picture:
    """A picture of `target`, uint8 of shape (32, 32, 3), edges antialiased over one pixel.

    Background, sizes and places are drawn from `rng` within the constants above; nothing else is random.
    """
    background = str(rng.choice(list(BACKGROUNDS)))
    canvas = np.tile(np.array(BACKGROUNDS[background], dtype=np.float64), (SIDE, SIDE, 1))
    if target["family"] == "text":
        _paint(canvas, _letters(target["text"], rng), INK[background])
    else:
        for cover, color in _things(target, rng):
            _paint(canvas, cover, PALETTE[color])
    return np.rint(canvas).astype(np.uint8)
