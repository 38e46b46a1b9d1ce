"""The paper's Average column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def relative(scores: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """score / base score; NaN where the base score is not positive, since a ratio to it has no direction."""
    return scores / np.where(base > 0, base, np.nan)


def average(scores: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the gold scorers of score / base score (Table 1, "Average").

    The paper gives no formula; this one reproduces 12 of the 13 printed values to two decimals.

    Args:
        scores: (..., S), one column per gold scorer.
        base: (S,) or (..., S), the base model's scores on the same prompts and seeds.

    Returns:
        (...,). NaN where any score is NaN: a mean over fewer scorers is another quantity.
    """
    return np.asarray(relative(scores, base).mean(axis=-1))
