"""The `geneval` proxy: a rule-based detector of color, shape, count and relation, in the spirit of GenEval.

It sees saturated blobs, and of a blob only its hue, its fill ratio and its box. It is blind to backgrounds, to
edges, to gradients inside a fill, to specks, to which way up a triangle stands, and to objects of a color
that nobody asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.rewards.proxy import Pictures, Proxy, Target, Values
from bench.tiny.render import SIDE
from gold_metrics.scorer import Entry

# Hue in degrees. Our choice: an arc holds a palette color and its antialiased mixtures with the backgrounds.
HUES = {"red": (-30.0, 27.0), "yellow": (30.0, 75.0), "green": (90.0, 180.0), "blue": (190.0, 252.0)}
COLORS = tuple(HUES)
# max - min over the channels, of 255. Our choice: far above noise on any background, below half of any fill (61).
CHROMA_FOUND = 55.0
CHROMA_EMPTY = 15.0  # chroma at which a pixel covers nothing: our choice, above the most colorful background (10)
CORE = 0.8  # pixels above this share of a blob's highest chroma are wholly inside: our choice
MIN_AREA = 10.0  # pixels; the renderer's smallest thing covers 23: our choice
BLUNT = 0.15  # covers this close to 0 or 1 count as none or whole, so that noise cancels: our choice
# Area over box area: triangle 1/2, circle pi/4, square 1. Our choice: on renders blurred by 0.7 pixels with noise of 8
# units 99 % of triangles measure less than 0.743, 99 % of circles lie between, over 99 % of squares above 0.85.
FILL_TRIANGLE, FILL_SQUARE = 0.743, 0.85
POSITION_MARGIN = 0.1  # GenEval evaluate_images.py, POSITION_THRESHOLD
POSITION_SHARE = 0.5  # of the distance between the centers; GenEval evaluate_images.py, relative_position

# Connected within a plane (4 neighbors), never across planes.
_NEIGHBORS = np.stack([np.zeros((3, 3)), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3))])


@dataclass(frozen=True)
class Thing:
    """A detected object: center and box in pixels."""

    color: str
    shape: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class _Pixels:
    """The saturated pixels of a batch: which blob each belongs to, where it lies, how colorful it is."""

    blob: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    chroma: NDArray[np.float64]


def _hue(rgb: NDArray[np.float64], chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hue in degrees, in [-60, 300), of (M, 3) saturated pixels."""
    r, g, b = rgb.T
    top = rgb.argmax(axis=1)
    sixths = np.choose(top, [(g - b) / chroma, 2 + (b - r) / chroma, 4 + (r - g) / chroma])
    return np.asarray(60 * sixths, dtype=np.float64)


def _planes(images: Pictures) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Chroma (N, H, W) and, per color, the pixels of that color (N, 4, H, W)."""
    chroma = (images.max(axis=-1) - images.min(axis=-1)).astype(np.float64)
    n, y, x = np.nonzero(chroma > CHROMA_FOUND)
    hue = _hue(images[n, y, x].astype(np.float64), chroma[n, y, x])
    planes = np.zeros((len(images), len(COLORS), *chroma.shape[1:]), dtype=bool)
    for k, (low, high) in enumerate(HUES.values()):
        inside = (low <= hue) & (hue < high)
        planes[n[inside], k, y[inside], x[inside]] = True
    return chroma, planes


def _extent(pixels: _Pixels, along: NDArray[np.int64], cover: Values, blobs: int) -> tuple[Values, Values]:
    """Width of each blob's box across one axis (its longest row, covers summed), and the box's middle along it."""
    rows = np.bincount(pixels.blob * SIDE + along, cover, blobs * SIDE).reshape(blobs, SIDE)
    used = rows > 0.5
    first, last = used.argmax(axis=1), SIDE - used[:, ::-1].argmax(axis=1)
    return rows.max(axis=1), (first + last) / 2


def _cover(pixels: _Pixels, blobs: int) -> Values:
    """How much of each pixel its blob covers, in [0, 1]: the pixel's chroma against the blob's core's, blunted."""
    peak = np.zeros(blobs)
    np.maximum.at(peak, pixels.blob, pixels.chroma)
    core = pixels.chroma >= CORE * peak[pixels.blob]
    total = np.bincount(pixels.blob, pixels.chroma * core, blobs)
    mean = total / np.maximum(np.bincount(pixels.blob, core, blobs), 1)
    cover = (pixels.chroma - CHROMA_EMPTY) / (mean[pixels.blob] - CHROMA_EMPTY)
    return np.clip((cover - BLUNT) / (1 - 2 * BLUNT), 0, 1)


def _shape(fill: float) -> str:
    if fill < FILL_TRIANGLE:
        return "triangle"
    return "circle" if fill < FILL_SQUARE else "square"


def detect(images: Pictures) -> list[list[Thing]]:
    """The things in each of (N, 32, 32, 3) uint8 pictures, ordered by color and first pixel."""
    found: list[list[Thing]] = [[] for _ in images]
    chroma, planes = _planes(images)
    used = np.argwhere(planes.any(axis=(2, 3)))  # (image, color) of each plane that has a pixel
    labels, count = ndimage.label(planes[used[:, 0], used[:, 1]], structure=_NEIGHBORS)
    if not count:
        return found
    plane, y, x = np.nonzero(labels)
    pixels = _Pixels(labels[plane, y, x] - 1, y, x, chroma[used[plane, 0], y, x])
    cover = _cover(pixels, count)
    area = np.bincount(pixels.blob, cover, count)
    (height, mid_x), (width, mid_y) = (_extent(pixels, axis, cover, count) for axis in (x, y))
    owner = np.zeros(count, dtype=np.int64)
    owner[pixels.blob] = plane
    for i in np.flatnonzero(area >= MIN_AREA).tolist():
        image, color = used[owner[i]].tolist()
        shape = _shape(float(area[i] / (width[i] * height[i])))
        box = (float(mid_x[i]), float(mid_y[i]), float(width[i]), float(height[i]))
        found[image].append(Thing(COLORS[color], shape, *box))
    return found


def relations(a: Thing, b: Thing) -> set[str]:
    """Where `a` lies, seen from `b`, with a tenth of both boxes as slack (GenEval, relative_position)."""
    offset = np.array([a.x - b.x, a.y - b.y])
    slack = POSITION_MARGIN * np.array([a.width + b.width, a.height + b.height])
    reach = np.sign(offset) * np.maximum(abs(offset) - slack, 0)
    dx, dy = (reach / max(float(np.hypot(*offset)), 1e-9)).tolist()
    names = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {name for name, share in names.items() if share > POSITION_SHARE}


def _count_part(found: int, wanted: int) -> float:
    return 1 - min(abs(found - wanted), wanted) / wanted


def grade(found: list[Thing], target: Target) -> float:
    """The mean of a target's parts, in [0, 1]; 1 if and only if every part holds.

    For each requested object: how many things have its color, and how many have its color and shape, each
    1 - |found - wanted| / wanted, at least 0; and 1 or 0 for the relation, judged where both things are there
    once. Equal counts are asked for, as flow_grpo's reward server does (gen_eval.py, strict and partial rewards).
    """
    things = [(o["color"], o["shape"]) for o in target["objects"] for _ in range(o["count"])]
    colors = [color for color, _ in things]
    parts = []
    for wanted in target["objects"]:
        thing = (wanted["color"], wanted["shape"])
        parts.append(_count_part(sum(f.color == thing[0] for f in found), colors.count(thing[0])))
        parts.append(_count_part(sum((f.color, f.shape) == thing for f in found), things.count(thing)))
    if target["relation"] is not None:
        a, b = ([f for f in found if (f.color, f.shape) == thing] for thing in things)
        parts.append(float(len(a) == len(b) == 1 and target["relation"] in relations(a[0], b[0])))
    return float(np.mean(parts))


class GenEval(Proxy):
    """Graded detection score in [0, 1] of a picture against its target's objects; strict success is 1."""

    name = "geneval"
    head = "GenEval"

    @property
    def definition(self) -> dict[str, Any]:
        """The detector's thresholds and the rule."""
        return {
            "scorer": "tiny geneval",
            "hues": {color: list(arc) for color, arc in HUES.items()},
            "chroma": [CHROMA_EMPTY, CHROMA_FOUND, CORE],
            "blunt": BLUNT,
            "min_area": MIN_AREA,
            "fill": [FILL_TRIANGLE, FILL_SQUARE],
            "position": [POSITION_MARGIN, POSITION_SHARE],
            "value": "mean of color counts, thing counts and relation",
        }

    def fits(self, entry: Entry) -> bool:
        """Whether the target is of the objects family, or was forgotten."""
        return entry.target is None or entry.target.get("family") == "objects"

    def _lack(self, entry: Entry) -> str:
        return f"no target is given for {entry.prompt!r}, only its text" if entry.target is None else ""

    def _fit_rewards(self, images: Pictures, prompts: list[str], targets: list[Target | None]) -> Values:
        pairs = zip(detect(images), targets, strict=True)
        return np.array([grade(found, target) for found, target in pairs if target is not None])
