"""Paints a target of the little world as a 32x32 picture, with free position, size and background."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
PALETTE = {"red": (214, 48, 49), "green": (38, 160, 74), "blue": (41, 98, 214), "yellow": (240, 200, 40)}
BACKGROUNDS = {"white": (242, 242, 242), "gray": (168, 170, 176), "dark": (46, 46, 56)}
INK = {"white": (20, 20, 24), "gray": (20, 20, 24), "dark": (250, 250, 250)}
RADIUS = {1: (5, 8), 2: (4, 6), 3: (4, 5)}  # by the number of things in the picture, in pixels
GRID = 2  # pixels; places are multiples of it: a quarter of the phases that an autoencoder cell of 4 pixels can see
GAP = 1.5  # pixels between two things, so that they stay two things after antialiasing
# Things stand near these places (x, y), and sway about them by so many grid steps: a flow of this size paints a place
# that it can guess from the prompt, and smears one that it cannot.
ANCHORS = {1: [(16, 16)], 3: [(9, 9), (23, 9), (16, 23)]}
PAIRS = {"row": [(9, 16), (23, 16)], "column": [(16, 9), (16, 23)]}
LINE = {"left of": "row", "right of": "row", "above": "column", "below": "column"}
SWAY = {1: 2, 2: 1, 3: 1}
GLYPH_SCALE = 2
GLYPH_GAP = 2
TEXT_JITTER = (1, 1)  # grid places right/left and up/down from the center

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


def _fits(relation: str | None, places: list[tuple[float, float, float]]) -> bool:
    for (x1, y1, r1), (x2, y2, r2) in itertools.combinations(places, 2):
        if max(abs(x1 - x2), abs(y1 - y2)) < r1 + r2 + GAP:
            return False
    if relation is None:
        return True
    (x1, y1, _), (x2, y2, _) = places
    ahead = {"left of": x2 - x1, "right of": x1 - x2, "above": y2 - y1, "below": y1 - y2}[relation]
    across = abs(y1 - y2) if relation in ("left of", "right of") else abs(x1 - x2)
    return ahead > across


def _anchors(count: int, relation: str | None, rng: np.random.Generator) -> list[tuple[int, int]]:
    if count != 2:
        return ANCHORS[count]
    line = LINE[relation] if relation else str(rng.choice(["row", "column"]))
    anchors = PAIRS[line]
    return anchors[::-1] if relation in ("right of", "below") else anchors


def _place(count: int, relation: str | None, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    (low, high), sway = RADIUS[count], SWAY[count]
    while True:
        r = rng.integers(low, high + 1, count).astype(np.float64)
        places = np.array(_anchors(count, relation, rng)) + GRID * rng.integers(-sway, sway + 1, (count, 2))
        x, y = places.T.astype(np.float64)
        found = list(zip(x.tolist(), y.tolist(), r.tolist(), strict=True))
        if _fits(relation, found):
            return found


def _paint(canvas: NDArray[np.float64], cover: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    canvas += cover[..., None] * (np.array(color) - canvas)


def _letters_cover(text: str, rng: np.random.Generator) -> NDArray[np.float64]:
    dots = np.kron(np.stack([glyph(letter) for letter in text]), np.ones((1, GLYPH_SCALE, GLYPH_SCALE)))
    width, height = dots.shape[2], dots.shape[1]
    left = (SIDE - len(text) * width - (len(text) - 1) * GLYPH_GAP) // 2
    dx, dy = (GRID * int(rng.integers(-j, j + 1)) for j in TEXT_JITTER)
    cover = np.zeros((SIDE, SIDE))
    top = (SIDE - height) // 2 + dy
    for i, letter in enumerate(dots):
        x = left + dx + i * (width + GLYPH_GAP)
        cover[top : top + height, x : x + width] = letter
    return cover


def render(target: dict[str, Any], rng: np.random.Generator) -> Picture:
    """A picture of `target`, uint8 of shape (32, 32, 3), edges antialiased over one pixel.

    Background, sizes and places are drawn from `rng` within the constants above; nothing else is random.
    """
    background = str(rng.choice(list(BACKGROUNDS)))
    canvas = np.tile(np.array(BACKGROUNDS[background], dtype=np.float64), (SIDE, SIDE, 1))
    if target["family"] == "text":
        _paint(canvas, _letters_cover(target["text"], rng), INK[background])
    else:
        things = [(o["color"], o["shape"]) for o in target["objects"] for _ in range(o["count"])]
        for (color, shape), place in zip(things, _place(len(things), target["relation"], rng), strict=True):
            _paint(canvas, np.clip(0.5 - DISTANCE[shape](*place), 0, 1), PALETTE[color])
    return np.rint(canvas).astype(np.uint8)
