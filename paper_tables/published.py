"""Table 1 as printed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from bench.experiments import TABLE1
from paper_tables.average import average

SOURCE = "GRPO-Guard, CVPR 2026 poster, Table 1 (arXiv 2510.22319)"
GOLDS = ["hpsv2", "imr", "unir"]


@cache
def table1() -> pd.DataFrame:
    """The 13 printed rows, indexed by row name (`bench.experiments.TABLE1`); a score that is not printed is
    NaN.

    Columns used here: row (1 to 13), method, step, geneval, pickscore, text, hpsv2, imr, unir,
    average_printed.
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
    """The rows whose printed Average is not the recomputed one at two decimals, as column `recomputed`."""
    recomputed = recomputed_average(printed)
    return printed.assign(recomputed=recomputed)[recomputed.round(2) != printed["average_printed"]]
