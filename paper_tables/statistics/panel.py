"""Scores by seed and prompt: what every interval resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import ledger
from bench.record import LedgerError
from paper_tables.frame import Study, StudyError

Floats = NDArray[np.float64]
Judged = NDArray[np.bool_]
Column = tuple[int, str]  # (update, scorer)
LINE = ("row", "seed", "update", "scorer", "prompt", "member", "part", "score")
WORDS = ("row", "scorer", "prompt", "part")


@dataclass(frozen=True, eq=False)
class Panel:
    """One row's scores, crossed: the same P prompts under each of S seeds.

    Attributes:
        values: (S, P, C) means over the members of a prompt; NaN where the scorer does not judge the prompt.
        columns: C (update, scorer).
        seeds: S training seeds.
        prompts: P ids; those of a proxy's own set carry its name.
        parts: P names of a scorer's parts (GenEval's tasks); empty where there are none.
        parted: the scorers whose parts' means count alike.
    """

    values: Floats
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    parts: tuple[str, ...]
    parted: frozenset[str] = frozenset()

    def select(self, columns: Sequence[Column], seeds: Sequence[int]) -> Panel:
        """The panel of these columns and seeds alone, in their order; NaN for a column that is not there."""
        at = {column: index for index, column in enumerate(self.columns)}
        rows = [self.seeds.index(seed) for seed in seeds]
        values = np.full((len(rows), len(self.prompts), len(columns)), np.nan)
        for index, column in enumerate(columns):
            if column in at:
                values[:, :, index] = self.values[rows, :, at[column]]
        return replace(self, values=values, columns=tuple(columns), seeds=tuple(seeds))

    def of(self, prompts: Sequence[str], parts: Sequence[str]) -> Panel:
        """The panel on these prompts; NaN for a prompt that is not there."""
        at = {prompt: index for index, prompt in enumerate(self.prompts)}
        where = np.array([at.get(prompt, -1) for prompt in prompts], dtype=int)
        values = np.where((where < 0)[:, None], np.nan, self.values[:, where])
        return replace(self, values=values, prompts=tuple(prompts), parts=tuple(parts))

    def masked(self, keep: NDArray[np.bool_]) -> Panel:
        """The panel with NaN for the prompts that are not kept; `keep` is (P,)."""
        return replace(self, values=np.where(keep[:, None], self.values, np.nan))


class Same:
    """A key that is equal to itself alone, so that what cannot be hashed can be remembered."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing


def scores(study: Study) -> pd.DataFrame:
    """Every score that could be had: row, seed, update, scorer, prompt, member, part, score; a line each.

    A score of a whole prompt (variety) is its member 0's.

    Raises:
        StudyError: a file of scores is damaged.
    """
    return _judged(study)


def missing(study: Study) -> pd.DataFrame:
    """How many scores could not be had and were dropped: row, seed, update, scorer, missing; a line where there are."""
    found = _all(study)
    lost = found[found["score"].isna()]
    return lost.groupby(["row", "seed", "update", "scorer"], observed=True).size().reset_index(name="missing")


def panel(frame: pd.DataFrame, row: str, columns: Sequence[Column], seeds: Sequence[int]) -> Panel:
    """The panel of a row from `scores`, on the prompts that one of the columns judges.

    Raises:
        KeyError: the row has no scores under one of the seeds.
    """
    whole = _cube(Same(frame), row)
    absent = [seed for seed in seeds if seed not in whole.seeds]
    if absent:
        raise KeyError(f"wanted scores of {row} under seeds {list(seeds)}, found none under {absent}")
    chosen = whole.select(columns, seeds)
    kept = np.flatnonzero(judged_by(chosen).any(axis=1))
    return chosen.of([chosen.prompts[i] for i in kept], [chosen.parts[i] for i in kept])


def judged_by(panel: Panel) -> Judged:
    """(P, C) whether the column judges the prompt under any seed."""
    known: NDArray[np.bool_] = np.isfinite(panel.values)
    return np.asarray(known.any(axis=0))


def cube(study: Study, row: str) -> Panel:
    """Every score of a row; no seeds where it has none."""
    return _cube(Same(_judged(study)), row)


@lru_cache(maxsize=16)  # studies: one, those of other settings, and each of these with it
def _judged(study: Study) -> pd.DataFrame:
    found = _all(study)
    return found[found["score"].notna()]


@lru_cache(maxsize=16)
def _all(study: Study) -> pd.DataFrame:
    parts = [found for run in study.runs if len(found := _of(run))]
    if not parts:
        return pd.DataFrame(columns=list(LINE)).astype({"score": float})
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype(dict.fromkeys(WORDS, "category"))


def _of(run: ledger.Run) -> pd.DataFrame:
    try:
        found = run.scores()
    except (LedgerError, OSError, ValueError) as error:
        raise StudyError(" ".join(str(error).split())) from error
    if found.empty:
        return found
    own = found["own"].where(found["own"] == "", found["own"] + "/")
    return pd.DataFrame(
        {
            "row": run.info["row"],
            "seed": int(run.info["seed"]),
            "update": found["update"].astype(int),
            "scorer": found["scorer"],
            "prompt": own + found["prompt_id"],
            "member": found["seed"].fillna(0).astype(int),
            "part": found["part"].fillna("") if "part" in found else "",
            "score": found["score"].astype(float),
        }
    )


@lru_cache(maxsize=256)
def _cube(same: Same, row: str) -> Panel:
    frame: pd.DataFrame = same.thing
    mine = frame[frame["row"] == row]
    means = mine.groupby(["seed", "prompt", "update", "scorer"], observed=True)["score"].mean().reset_index()
    at, seeds = pd.factorize(means["seed"], sort=True)
    where, prompts = pd.factorize(means["prompt"].astype(object), sort=True)
    of, columns = pd.factorize(pd.MultiIndex.from_frame(means[["update", "scorer"]].astype(object)), sort=True)
    values = np.full((len(seeds), len(prompts), len(columns)), np.nan)
    values[at, where, of] = means["score"]
    tagged = mine.loc[mine["part"] != "", ["prompt", "part", "scorer"]].drop_duplicates()
    part = dict(zip(tagged["prompt"], tagged["part"], strict=True))
    parts = tuple(str(part.get(prompt, "")) for prompt in prompts)
    return Panel(values, tuple(columns), tuple(map(int, seeds)), tuple(prompts), parts, frozenset(tagged["scorer"]))
