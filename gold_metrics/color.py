"""Colors as numbers: luma, the nearly uniform color space Oklab, and how far two pictures lie apart in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gold_metrics.scorer import Picture

Array = NDArray[np.float64]

# ITU-R BT.601, the luma of JPEG and of PIL's mode L.
LUMA = np.array([0.299, 0.587, 0.114])

# Ottosson 2020, "A perceptual color space for image processing" (bottosson.github.io/posts/oklab): from linear sRGB to
# cone responses, and from their cube roots to L, a, b.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


# Our choice: 16 by 16 cells keep layout and colors and average noise and texture away, which are no diversity.
CELLS = 16


def luma(image: Picture) -> Array:
    """Brightness of each pixel, 0 to 255, (height, width)."""
    gray: Array = image @ LUMA
    return gray


def oklab(image: Picture) -> Array:
    """L, a and b of each pixel, (height, width, 3); L of white is 1."""
    share = image / 255.0
    # The transfer function of sRGB, IEC 61966-2-1.
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    lab: Array = np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T
    return lab


def difference(one: Array, other: Array) -> Array:
    """Distance of colors in Oklab over the last axis; 0.02 is just noticeable (CSS Color 4)."""
    distance: Array = np.linalg.norm(one - other, axis=-1)
    return distance


def cells(image: Picture) -> Array:
    """Oklab of the 16 by 16 cells' mean colors, (256, 3)."""
    small = Image.fromarray(image).resize((CELLS, CELLS), Image.Resampling.BOX)
    return oklab(np.asarray(small)).reshape(-1, 3)


def cell_distances(images: Sequence[Picture]) -> Array:
    """Mean color difference of the cells of each two of N pictures, (N, N)."""
    all_cells = np.stack([cells(image) for image in images])
    return np.stack([difference(all_cells, one).mean(axis=1) for one in all_cells])
