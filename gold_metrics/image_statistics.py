"""Statistics of pictures, without weights: they show what over-optimized pictures have in common before a judge does.

They are statistics and no judgements. A collapsed policy repeats itself (diversity, duplicates), an over-optimized one
drifts to garish colors, empty or busy pictures and the stripes of its decoder. What warns is a change from the base
model's own value, in either direction; `higher_is_better` only says which way the known failures do not go, so that a
table can be sorted. Edges and stripes depend on the size of the pictures: compare them at equal sizes.

The numbers follow from the formulas and constants here, so the definitions name no package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from gold_metrics.color import CELLS, cell_distances, luma
from gold_metrics.scorer import Entry, Picture, Score, by_prompt, missing

Array = NDArray[np.float64]

# The classic DCT hash (phash.org; imagehash phash): the 8 by 8 lowest frequencies of 32 by 32 gray pixels, 64 bits.
HASH_PIXELS = 32
HASH_SIDE = 8

# Of 64 bits, at most: imagededup 045f694 methods/hashing.py, default max_distance_threshold. Those of independent
# pictures differ in 32 +- 4.
HASH_DISTANCE = 10

# The hash sees no color. Our choice: two of CSS Color 4's just noticeable differences in Oklab (0.02), mean over cells.
COLOR_DISTANCE = 0.04

# Our choice, units per pixel of 255: a step of 32 between two neighbouring pixels has this slope on both of them.
EDGE_SLOPE = 16.0

# Our choice: 8 levels a channel, so that noise of a few units makes no new colors.
COLOR_LEVELS = 8

# Our choices for stripes: periods from 2 pixels to a quarter of the side (longer ones are content); a frequency's
# neighbourhood is a sixteenth of the spectrum on each side, four frequencies at least; the floor is the spectrum of
# rounding to whole units, of variance 1/12.
STRIPES_LOWEST = 4
STRIPES_SHARE = 16
STRIPES_LEAST = 32
ROUNDING_VARIANCE = 1 / 12


class _Statistic:
    """What the statistics share: they fit every entry, and a definition is a version and constants."""

    name: ClassVar[str]
    constants: ClassVar[dict[str, Any]] = {}
    per: ClassVar[Literal["image", "set"]] = "image"

    @property
    def definition(self) -> dict[str, Any]:
        """Version and constants."""
        return {"scorer": self.name, "version": 1, **self.constants}

    def fits(self, entry: Entry) -> bool:
        """Always: what a prompt asks for is not looked at."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores, each of its own picture alone."""
        return [self._of_image(image) for image in images]

    _of_image: Callable[[Picture], Score]


class _SetStatistic(_Statistic):
    """A statistic of a prompt's pictures, which may differ in size."""

    per: ClassVar[Literal["image", "set"]] = "set"
    _of_set: Callable[[Sequence[Picture]], float]

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """A score per prompt; NaN for a prompt with a single picture."""
        return [self._of_group([images[i] for i in group]) for group in by_prompt(entries).values()]

    def _of_group(self, images: Sequence[Picture]) -> Score:
        if len(images) < 2:
            return missing(f"{self.name} needs at least two pictures of a prompt, found one")
        return Score(self._of_set(images))


class Diversity(_SetStatistic):
    """Mean color difference of two of a prompt's pictures, cell by cell, in Oklab (black to white is 1).

    Oklab (Ottosson 2020) is nearly uniform to the eye, so a shift of hue and one of light count as they are seen. It
    is a plain distance of layouts: it knows nothing of content, and two crops of one scene are far apart.
    """

    name: ClassVar[str] = "diversity"
    head: ClassVar[str] = "Diversity"
    higher_is_better: ClassVar[bool] = True
    # The difference of black and white; no two colors of sRGB are further apart.
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    constants: ClassVar[dict[str, Any]] = {"space": "oklab", "cells": CELLS, "resize": "box"}

    def _of_set(self, images: Sequence[Picture]) -> float:
        distances = cell_distances(images)
        return float(distances[np.triu_indices(len(images), 1)].mean())


class Duplicates(_SetStatistic):
    """Share of a prompt's pictures that have a near-duplicate among the others.

    Two pictures are near-duplicates where their perceptual hashes differ in at most 10 of 64 bits and their cells by
    at most 0.04 in Oklab on average: the first forgives light and noise, the second tells a red thing from a blue one.
    """

    name: ClassVar[str] = "duplicates"
    head: ClassVar[str] = "Duplicates"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    constants: ClassVar[dict[str, Any]] = {
        "hash": "dct",
        "pixels": HASH_PIXELS,
        "side": HASH_SIDE,
        "hash_distance": HASH_DISTANCE,
        "color_distance": COLOR_DISTANCE,
        "cells": CELLS,
        "resize": "box",
    }

    def _of_set(self, images: Sequence[Picture]) -> float:
        hashes = np.stack([perceptual_hash(image) for image in images])
        bits = np.stack([(hashes != one).sum(axis=1) for one in hashes])
        near = (bits <= HASH_DISTANCE) & (cell_distances(images) <= COLOR_DISTANCE)
        np.fill_diagonal(near, False)
        return float(near.any(axis=1).mean())


class EdgeDensity(_Statistic):
    """Share of pixels at which luma changes by more than 16 of 255 units per pixel (Sobel)."""

    name: ClassVar[str] = "edge_density"
    head: ClassVar[str] = "Edges"
    higher_is_better: ClassVar[bool] = True  # detail is lost before it is made up
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    constants: ClassVar[dict[str, Any]] = {"luma": "BT.601", "slope": EDGE_SLOPE}

    def _of_image(self, image: Picture) -> Score:
        gray = luma(image)
        # Sobel's weights sum to 8 units for a slope of 1 unit per pixel.
        slope = np.hypot(*(ndimage.sobel(gray, axis, mode="nearest") / 8 for axis in (0, 1)))
        return Score(float((slope >= EDGE_SLOPE).mean()))


class ColorEntropy(_Statistic):
    """Entropy, in bits, of the picture's colors in 8 levels a channel: log2 k for k colors of equal area."""

    name: ClassVar[str] = "color_entropy"
    head: ClassVar[str] = "Color entropy"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 3 * float(np.log2(COLOR_LEVELS)))
    constants: ClassVar[dict[str, Any]] = {"levels": COLOR_LEVELS}

    def _of_image(self, image: Picture) -> Score:
        levels = image.astype(np.int64) * COLOR_LEVELS // 256
        counts = np.bincount((levels @ (COLOR_LEVELS**2, COLOR_LEVELS, 1)).ravel())
        shares = counts[counts > 0] / counts.sum()
        return Score(float(abs(np.sum(shares * np.log2(shares)))))


class Saturation(_Statistic):
    """Mean saturation of HSV: (max - min) / max of a pixel's channels, 0 for black."""

    name: ClassVar[str] = "saturation"
    head: ClassVar[str] = "Saturation"
    higher_is_better: ClassVar[bool] = False  # a proxy's favorite shortcut is garish color
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def _of_image(self, image: Picture) -> Score:
        value = image.max(axis=2).astype(np.float64)
        chroma = value - image.min(axis=2)
        return Score(float(np.divide(chroma, value, out=np.zeros_like(value), where=value > 0).mean()))


class Stripes(_Statistic):
    """How far the strongest frequency along rows or columns stands out of its neighbours: about 1 without stripes.

    The larger of the two axes of `stripes`. A checkerboard of a decoder counts on both; so does a fence.
    """

    name: ClassVar[str] = "stripes"
    head: ClassVar[str] = "Stripes"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    constants: ClassVar[dict[str, Any]] = {
        "lowest": STRIPES_LOWEST,
        "share": STRIPES_SHARE,
        "window": "hann",
        "floor": ROUNDING_VARIANCE,
    }

    def _of_image(self, image: Picture) -> Score:
        height, width = image.shape[:2]
        if min(height, width) < STRIPES_LEAST:
            return missing(f"stripes needs pictures of {STRIPES_LEAST} pixels a side, found {width} by {height}")
        return Score(max(stripes(image, axis) for axis in (0, 1)))


def perceptual_hash(image: Picture) -> NDArray[np.bool_]:
    """64 bits: which of the lowest frequencies lie above their median; (64,)."""
    small = Image.fromarray(image).convert("L").resize((HASH_PIXELS, HASH_PIXELS), Image.Resampling.BOX)
    spectrum = fft.dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    # Rounded so that a plain picture's zeros stay equal; the first frequency is the mean and never near the median.
    spectrum = spectrum.round(6)
    return spectrum > np.median(spectrum[1:])


def stripes(image: Picture, axis: int) -> float:
    """Amplitude of the strongest frequency along the axis over what its neighbourhood would let expect.

    Amplitudes are root mean squares over the lines along the axis and the three channels, in a Hann window. Those of
    pictures fall as 1/frequency (Field 1987), so the expectation at f is the local median of amplitude * f, over f; it
    is no less than what rounding to whole units makes of a plain picture. A full sine of amplitude a on a plain of n
    pixels along the axis has a * sqrt(2n).
    """
    lines = np.moveaxis(image, axis, 0).reshape(image.shape[axis], -1).astype(np.float64)
    window = np.hanning(len(lines) + 1)[:-1, None]  # the periodic window
    power = (abs(fft.rfft((lines - lines.mean(axis=0)) * window, axis=0)) ** 2).mean(axis=1)[1:]
    frequency = np.arange(1, len(power) + 1)
    reach = max(STRIPES_LOWEST, len(power) // STRIPES_SHARE)
    flat = ndimage.median_filter(np.sqrt(power) * frequency, size=2 * reach + 1, mode="mirror")
    floor = np.sqrt(ROUNDING_VARIANCE * (window**2).sum())
    ratio = np.sqrt(power) / np.maximum(flat / frequency, floor)
    return float(ratio[STRIPES_LOWEST - 1 :].max())
