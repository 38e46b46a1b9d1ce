"""Table 1 as printed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pandas as pd

from bench.experiments import TABLE1
from paper_tables.average import average

SOURCE = "GRPO-Guard, CVPR 2026 poster, Table 1 (arXiv 2510.22319)"
GOLDS = ["hpsv2", "imr", "unir"]
# A unit of the last digit that is printed; a difference is printed to its score's digits.
UNITS = {
    "geneval": 0.01, "pickscore": 0.1, "text": 0.01, "hpsv2": 0.001, "imr": 0.01, "unir": 0.01, "average_printed": 0.01,
}  # fmt: skip
# Two scores, each off by half a unit, and the printed difference by another half.
ROUNDING_UNITS = 1.5


@cache
def table1() -> pd.DataFrame:
    """The 13 printed rows, indexed by row name (`bench.experiments.TABLE1`); a score that is not printed is
    NaN.

    Columns used here: row (1 to 13), method, step, proxy_task, geneval, pickscore, text, hpsv2, imr, unir,
    average_printed, and d_geneval to d_average, which only GRPO-Guard's rows have: the difference from the row above.
    """
    with files("paper_tables").joinpath("data/table1_published.csv").open() as file:
        frame = pd.read_csv(file)
    return frame.set_index(pd.Index(list(TABLE1), name="name"))


def recomputed_average(printed: pd.DataFrame) -> pd.Series:
    """(rows,) Average from the printed gold scores, each divided by the base row of its backbone."""
    base = printed[printed["setting"] == "base"].set_index("backbone")[GOLDS]
    by_row = base.loc[printed["backbone"]].to_numpy(dtype=np.float64)
    return pd.Series(average(printed[GOLDS].to_numpy(dtype=np.float64), by_row), index=printed.index)


def contradictions(printed: pd.DataFrame) -> pd.DataFrame:
    """The rows whose printed Average is not the recomputed one at two decimals.

    Columns added: recomputed; low and high, what it may be for scores that round to the printed ones; rounding, whether
    some of that rounds to the printed Average.
    """
    low, high = (recomputed_average(_shifted(printed, half)) for half in (-0.5, 0.5))
    recomputed, unit = recomputed_average(printed), UNITS["average_printed"]
    reach = (low <= printed["average_printed"] + unit / 2) & (high >= printed["average_printed"] - unit / 2)
    frame = printed.assign(recomputed=recomputed, low=low, high=high, rounding=reach)
    return frame[recomputed.round(2) != printed["average_printed"]]


def _shifted(printed: pd.DataFrame, units: float) -> pd.DataFrame:
    """Every gold score shifted by so many units of its last digit, that of the base models the other way."""
    sign = np.where(printed["setting"] == "base", -1, 1)
    return printed.assign(**{gold: printed[gold] + sign * units * UNITS[gold] for gold in GOLDS})


def inconsistent_differences(printed: pd.DataFrame) -> pd.DataFrame:
    """The printed differences that are not those of the printed scores.

    A line each: name and row of GRPO-Guard, of_row (the row above, that it is the difference from), score, printed,
    recomputed, and rounding, whether rounding can explain it.
    """
    lines = []
    for above, below in pairwise(printed.reset_index().to_dict("records")):
        for score, unit in UNITS.items():
            told = float(below[f"d_{score.removesuffix('_printed')}"])
            found = float(below[score]) - float(above[score])
            units = abs(round((told - found) / unit)) if np.isfinite(told) else 0
            if units:
                lines.append({"name": below["name"], "row": below["row"], "of_row": above["row"], "score": score,
                              "printed": told, "recomputed": found, "rounding": units <= ROUNDING_UNITS})  # fmt: skip
    return pd.DataFrame(lines, columns=["name", "row", "of_row", "score", "printed", "recomputed", "rounding"])
