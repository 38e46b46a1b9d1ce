"""Are edges, fills and background as the renderer makes them? An exact oracle of the little world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gold_metrics.scorer import Entry, Picture, Score
from gold_metrics.tiny_parts import SMALLEST
from gold_metrics.tiny_world import BACKGROUND_REACH, Array, World, belongs, find_background, shipped, unmix

# Our choice: an error of 16 of 255 units costs a factor of e, so that a decoder's softness (about 8) lies in mid-range.
SCALE = 16.0

# Our choice: a pixel at an edge weighs nine times one on a plain, so that the outlines of a picture weigh what its far
# larger plains do.
EDGE_WEIGHT = 8.0

# Our choice: a neighbourhood that spans this much of the way from background to paint begins to count as an edge.
EDGE_SPAN = 0.5

# Our choice: a slope weighs like an edge from a tenth of the way on; otherwise a wide blur would dilute itself.
SLOPE_SPAN = 0.1

CONSTANTS = {
    "background_reach": BACKGROUND_REACH,
    "scale": SCALE,
    "edge_weight": EDGE_WEIGHT,
    "edge_span": EDGE_SPAN,
    "slope_span": SLOPE_SPAN,
    "smallest": SMALLEST,
}

NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Cleanliness:
    """exp(-error / 16): how far, in 0..255 units, the pixels are from what the renderer could have painted.

    A plain pixel may have the color of the known background or of a paint. A pixel may lie on the mixing line between
    the two only where its 3x3 neighbourhood spans the whole way from one to the other: edges are one pixel wide. A
    patch too small to be a thing should be background. The error of real pictures is free (the data file has it).
    """

    name: ClassVar[str] = "cleanliness"
    head: ClassVar[str] = "Cleanliness"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(self, world: World | None = None) -> None:
        self.world = world or shipped()

    @property
    def definition(self) -> dict[str, Any]:
        """Version, constants and the world's data file."""
        return {"scorer": self.name, "version": 1, "world": self.world.sha256, **CONSTANTS}

    def fits(self, entry: Entry) -> bool:
        """Whether the entry is of the little world."""
        return belongs(entry)

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores in [0, 1]; the entries are not looked at."""
        free = self.world.statistics["render_error"]
        excess = (max(0.0, render_error(image, self.world) - free) for image in images)
        return [Score(float(np.exp(-error / SCALE))) for error in excess]


def render_error(picture: Picture, world: World) -> float:
    """Weighted mean distance of the pixels from what the renderer could have painted there, in 0..255 units."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    background, _ = find_background(pixels, world)
    ground, paints = world.backgrounds[background], world.paint_colors[background]
    _, cover, from_line = unmix(pixels, ground, paints)
    from_ground = np.linalg.norm(pixels - ground, axis=1)
    from_paint = np.sqrt(((pixels[:, None] - paints) ** 2).sum(axis=2)).min(axis=1)
    stray = _strays(cover.reshape(picture.shape[:2]) > 0.5).ravel()
    span = _span(np.where(stray, 0, cover).reshape(picture.shape[:2])).ravel()
    edge = np.clip((span - EDGE_SPAN) / (1 - EDGE_SPAN), 0, 1)
    error = edge * from_line + (1 - edge) * np.minimum(from_ground, from_paint)
    return float(
        np.average(np.where(stray, from_ground, error), weights=1 + EDGE_WEIGHT * np.minimum(1, span / SLOPE_SPAN))
    )


def _strays(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of those connected patches of the mask that are too small to be a thing."""
    labels, _ = ndimage.label(mask, NEIGHBOURS)
    small: NDArray[np.bool_] = mask & (np.bincount(labels.ravel()) < SMALLEST)[labels]
    return small


def _span(cover: Array) -> Array:
    """Largest minus smallest cover in each pixel's 3x3 neighbourhood."""
    highest = ndimage.maximum_filter(cover, 3, mode="nearest")
    span: Array = highest - ndimage.minimum_filter(cover, 3, mode="nearest")
    return span
