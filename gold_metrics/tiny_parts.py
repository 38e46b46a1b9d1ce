"""The things and the letters that a picture of the little world shows, and which of them its target asked for."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gold_metrics.tiny_world import BACKGROUND_REACH, Array, Segmentation, World

# Our choice: a third of the smallest thing that the renderer paints (a triangle of 23 pixels); less is a stray mark.
SMALLEST = 8

# Our choice: what a decoder leaves of an edge is softer than a renderer's, so covers are stretched from this far inside
# of 0 and 1 before they are compared with an ideal.
SOFTNESS = 0.15

# Our choice: blurred by 0.7 pixels a shape still overlaps with its ideal by 0.82; the argmax tells shapes apart.
SHAPE_FIT = 0.8

# Our choice: blurred by 0.7 pixels a letter correlates with its template by 0.97, other letters by 0.85 at most.
LETTER_FIT = 0.88
LETTER_SOFTNESS = 0.5  # pixels: between a sharp letter and one that a decoder softened
RIM = 1  # pixels around a letter that must be free of ink: half of the gap between two

# Our choice: just under half of the 153 units between the two nearest colors of the palette.
COLOR_ERROR = 70.0

THRESHOLDS = {
    "background_reach": BACKGROUND_REACH,
    "color_error": COLOR_ERROR,
    "smallest": SMALLEST,
    "softness": SOFTNESS,
    "shape_fit": SHAPE_FIT,
    "letter_fit": LETTER_FIT,
    "letter_softness": LETTER_SOFTNESS,
}


@dataclass(frozen=True)
class Thing:
    """One connected patch of paint.

    Attributes:
        color: name of its paint; empty if it is too far from every paint.
        shape: circle, square or triangle; empty if it is none of them.
        x, y: center of the shape's extent, or of mass where it has no shape, in pixels from the upper left corner.
        size: square root of its area, in pixels.
    """

    color: str
    shape: str
    x: float
    y: float
    size: float


def stretched(cover: Array) -> Array:
    """Covers with the soft ends cut off, in [0, 1]."""
    return np.clip((cover - SOFTNESS) / (1 - 2 * SOFTNESS), 0, 1)


def things(seen: Segmentation, world: World) -> list[Thing]:
    """Every patch of one paint that is no stray mark, the largest first."""
    found = [_thing(*patch) for index, color in enumerate(world.paints) for patch in _patches(seen, index, color)]
    return sorted(found, key=lambda thing: -thing.size)


def colored_patches(seen: Segmentation, world: World) -> int:
    """How many patches there are of another paint than ink."""
    return sum(1 for index, color in enumerate(world.paints[:-1]) for _ in _patches(seen, index, color))


def _patches(seen: Segmentation, paint: int, color: str) -> Iterator[tuple[str, Array, int, int]]:
    mask = (seen.paint == paint) & (seen.cover > 0.5)
    if mask.sum() < SMALLEST:
        return
    labels, _ = ndimage.label(mask)
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
        window = (slice(top, rows.stop + 1), slice(left, columns.stop + 1))
        patch = labels[window] == label
        if patch.sum() >= SMALLEST:
            known = float(np.median(seen.paint_error[window][patch])) <= COLOR_ERROR
            yield color if known else "", stretched(np.where(_grown(patch), seen.cover[window], 0)), left, top


def _thing(color: str, cover: Array, left: int, top: int) -> Thing:
    area = cover.sum()
    down, right = (np.arange(length) + 0.5 for length in cover.shape)
    x, y = cover.sum(axis=0) @ right / area, cover.sum(axis=1) @ down / area
    ideals = ideal_shapes(right - x, (down - y)[:, None], area)
    fits = {shape: overlap(cover, stretched(ideal)) for shape, ideal in ideals.items()}
    shape = max(fits, key=lambda name: fits[name])
    recognised = shape if fits[shape] >= SHAPE_FIT else ""
    y -= recognised == "triangle" and np.sqrt(2 * area) / 6  # a third of its height lies below the center of mass
    return Thing(color, recognised, float(x + left), float(y + top), float(np.sqrt(area)))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its eight neighbours: where the edge of a patch lies."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def ideal_shapes(x: Array, y: Array, area: float) -> dict[str, Array]:
    """The renderer's shapes of a given area around their center of mass, edges one pixel wide.

    Args:
        x, y: coordinates from the center of mass in pixels, broadcastable to (H, W).
        area: in pixels.

    Returns:
        Cover in [0, 1] of shape (H, W) by name. The triangle is as wide as high, apex up.
    """
    circle = np.hypot(x, y) - np.sqrt(area / np.pi)
    square = np.maximum(abs(x), abs(y)) - np.sqrt(area) / 2
    height = np.sqrt(2 * area)
    sides = (2 * abs(x) - (y + height * 2 / 3)) / np.sqrt(5)
    triangle = np.maximum(sides, y - height / 3)
    distances = {"circle": circle, "square": square, "triangle": triangle}
    return {name: np.clip(0.5 - distance, 0, 1) for name, distance in distances.items()}


def overlap(one: Array, other: Array) -> float:
    """Intersection over union of two covers."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


@dataclass(frozen=True)
class Letter:
    """A letter that was read, and the upper left corner of its box in pixels."""

    letter: str
    x: int
    y: int


def letters(seen: Segmentation, world: World) -> tuple[list[Letter], int]:
    """The letters from left to right, and how many letters' worth of ink could not be read."""
    height, width = world.glyphs.shape[1:]
    ink = np.pad(np.where(seen.paint == len(world.paints) - 1, seen.cover, 0), RIM + 1)
    fits = _letter_fits(ink, world)
    found = []
    while fits.max(initial=0) >= LETTER_FIT:
        y, x, template = (int(i) for i in np.unravel_index(fits.argmax(), fits.shape))
        found.append(Letter(world.letters[template % len(world.letters)], x - 1, y - 1))
        fits[max(y - height + 3, 0) : y + height - 2, max(x - width + 3, 0) : x + width - 2] = 0
        ink[y : y + height + 2 * RIM, x : x + width + 2 * RIM] = 0
    unread = float(stretched(ink).sum())
    unread_letters = max(1, round(unread / float(world.glyphs.sum(axis=(1, 2)).mean()))) if unread >= SMALLEST else 0
    return sorted(found, key=lambda letter: letter.x), unread_letters


def _letter_fits(ink: Array, world: World) -> NDArray[np.float32]:
    """Correlation of the ink with each template at each place, (rows, columns, templates)."""
    templates, faintest = _letter_templates(world)
    windows = np.lib.stride_tricks.sliding_window_view(ink.astype(np.float32), templates.shape[1:])
    flat = windows.reshape(*windows.shape[:2], -1)
    energy = np.einsum("yxn,yxn->yx", flat, flat) - flat.sum(axis=-1) ** 2 / flat.shape[-1]
    # A window with less contrast than half of the faintest letter holds none, whatever its direction.
    scale = np.sqrt(np.maximum(energy, faintest / 2))
    fits: NDArray[np.float32] = flat @ templates.reshape(len(templates), -1).T / scale[..., None]
    return fits


@functools.cache
def _letter_templates(world: World) -> tuple[NDArray[np.float32], float]:
    """Glyphs with a rim, slightly soft, at whole and half pixels, centered and of norm 1; the least norm squared."""
    sharp = np.pad(world.glyphs, ((0, 0), (RIM, RIM), (RIM, RIM))).astype(np.float64)
    shifts = itertools.product((0, 0.5), repeat=2)
    moved = np.concatenate([ndimage.shift(sharp, (0, *shift), order=1) for shift in shifts])
    soft = ndimage.gaussian_filter(moved, (0, LETTER_SOFTNESS, LETTER_SOFTNESS))
    centered = soft - soft.mean(axis=(1, 2), keepdims=True)
    energy = (centered**2).sum(axis=(1, 2), keepdims=True)
    return (centered / np.sqrt(energy)).astype(np.float32), float(energy.min())


def wanted(target: dict[str, Any]) -> list[tuple[str, str]]:
    """(color, shape) of every single thing that a target of the objects family asks for."""
    return [(each["color"], each["shape"]) for each in target["objects"] for _ in range(each["count"])]


def assign(kinds: Sequence[tuple[str, str]], found: Sequence[Thing]) -> list[tuple[Thing | None, float]]:
    """Give each wanted kind a thing of its own: first the right ones, then by color, then by shape.

    Returns:
        (thing, credit) per kind: credit 1 if color and shape are right, 1/2 if one of them is, (None, 0) if none is.
    """
    chosen: list[tuple[Thing | None, float]] = [(None, 0.0)] * len(kinds)
    left = list(found)
    for agrees, credit in ((_same, 1.0), (_same_color, 0.5), (_same_shape, 0.5)):
        for index, kind in enumerate(kinds):
            if chosen[index][0] is not None:
                continue
            thing = next((each for each in left if agrees(each, kind)), None)
            if thing is not None:
                chosen[index] = (thing, credit)
                left.remove(thing)
    return chosen


def _same(thing: Thing, kind: tuple[str, str]) -> bool:
    return (thing.color, thing.shape) == kind


def _same_color(thing: Thing, kind: tuple[str, str]) -> bool:
    return thing.color == kind[0]


def _same_shape(thing: Thing, kind: tuple[str, str]) -> bool:
    return thing.shape == kind[1]
