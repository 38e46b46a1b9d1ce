"""The little world as its oracles know it, and pictures taken apart into paint on a background.

All that is known of the renderer comes from `data/tiny_world.json`, which `python -m bench.tiny.statistics` writes.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gold_metrics.scorer import Entry, Picture

Array = NDArray[np.float64]

DATA = "tiny_world.json"
INK = "ink"
BACKGROUND_REACH = 60.0  # our choice: just under half of the 123 units between the two nearest backgrounds
NEEDED = {"objects": {"category", "objects", "relation"}, "text": {"category", "text"}}  # keys of a target, by family


@dataclass(frozen=True, eq=False)
class World:
    """The renderer's constants and statistics.

    Attributes:
        backgrounds: K flat colors, (K, 3) in 0..255.
        paints: names of the C paints: the palette's colors and, last, the ink.
        paint_colors: (K, C, 3), what each paint is on each background (the ink depends on it).
        letters: the alphabet, as a string of L letters.
        glyphs: the letters as painted, bool (L, height, width) in pixels.
        unit_sizes: square root of a shape's area when its radius is 1, by the shape's name.
        statistics: what was measured on real pictures; see `bench.tiny.statistics`.
        sha256: of the data file, for the scorers' definitions.
    """

    backgrounds: Array
    paints: tuple[str, ...]
    paint_colors: Array
    letters: str
    glyphs: NDArray[np.bool_]
    unit_sizes: dict[str, float]
    statistics: dict[str, Any]
    sha256: str = ""

    @classmethod
    def from_data(cls, data: dict[str, Any], sha256: str = "") -> World:
        """The world of a data file's content."""
        names = list(data["backgrounds"])
        palette = [data["palette"][color] for color in data["palette"]]
        dots = [[[dot == "#" for dot in row] for row in data["glyphs"][letter]] for letter in data["glyphs"]]
        return cls(
            backgrounds=np.array([data["backgrounds"][name] for name in names], dtype=np.float64),
            paints=(*data["palette"], INK),
            paint_colors=np.array([[*palette, data["ink"][name]] for name in names], dtype=np.float64),
            letters="".join(data["glyphs"]),
            glyphs=np.kron(np.array(dots), np.ones((1, data["glyph_scale"], data["glyph_scale"]))) > 0,
            unit_sizes=data["unit_sizes"],
            statistics=data.get("statistics", {}),
            sha256=sha256,
        )


def belongs(entry: Entry) -> bool:
    """Whether an entry is of the little world, as far as can be told: its target is of a known family, or forgotten."""
    return entry.target is None or entry.target.get("family") in NEEDED


def unusable(entry: Entry) -> str:
    """Why an entry that belongs here cannot be judged against its target; empty if it can."""
    if entry.target is None:
        return "the manifest gives no target for this prompt, only its text"
    lacking = NEEDED[entry.target["family"]] - entry.target.keys()
    return f"the target of {entry.prompt!r} lacks {', '.join(sorted(lacking))}" if lacking else ""


@functools.cache
def shipped() -> World:
    """The world as the data file has it."""
    raw = resources.files("gold_metrics").joinpath("data", DATA).read_bytes()
    return World.from_data(json.loads(raw), hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True)
class Segmentation:
    """A picture taken apart into paint on background.

    Attributes:
        background: index of the known background that is nearest to the picture's.
        background_error: distance between the two, in 0..255 units.
        paint: (H, W), index of the paint that explains each pixel best.
        cover: (H, W) in [0, 1], how much of the pixel that paint covers.
        paint_error: (H, W), distance of the pixel from that paint, in 0..255 units.
    """

    background: int
    background_error: float
    paint: NDArray[np.intp]
    cover: Array
    paint_error: Array


def segment(picture: Picture, world: World) -> Segmentation:
    """Explain each pixel as a mixture of the background and one paint."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    background, ground = find_background(pixels, world)
    paints = world.paint_colors[background]
    paint, cover, _ = unmix(pixels, ground, paints)
    from_paint = np.linalg.norm(pixels - paints[paint], axis=1)
    shape = picture.shape[:2]
    return Segmentation(
        background,
        float(np.linalg.norm(world.backgrounds[background] - ground)),
        paint.reshape(shape),
        cover.reshape(shape),
        from_paint.reshape(shape),
    )


def find_background(pixels: Array, world: World) -> tuple[int, Array]:
    """Index of the known background that most of the (N, 3) pixels are near to, and their median color (3,).

    A median of all pixels would not do: three large squares with their edges cover more than half of a picture.
    """
    away = np.linalg.norm(pixels[:, None] - world.backgrounds, axis=2)
    background = int(np.minimum(away, BACKGROUND_REACH).mean(axis=0).argmin())
    near = pixels[away[:, background] < BACKGROUND_REACH]
    return background, np.median(near, axis=0) if len(near) else world.backgrounds[background]


def unmix(pixels: Array, ground: Array, paints: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """The nearest mixture of the ground and one paint, for each pixel.

    Args:
        pixels: (N, 3).
        ground: (3,), the color where there is no paint.
        paints: (C, 3).

    Returns:
        index of the paint (N,), its cover in [0, 1] (N,), distance of the pixel from that mixture (N,).
    """
    reach = paints - ground
    length = (reach**2).sum(axis=1)
    away = pixels - ground
    along = away @ reach.T
    covers = np.clip(along / length, 0, 1)
    distance = (away**2).sum(axis=1)[:, None] - 2 * covers * along + covers**2 * length
    best = distance.argmin(axis=1)
    row = np.arange(len(pixels))
    return best, covers[row, best], np.sqrt(np.maximum(distance[row, best], 0))
