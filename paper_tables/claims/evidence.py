"""What every optimizer update says of a run's log ratios, clipping and gradients, and intervals over the updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from bench import ledger
from bench.experiments import ROWS, SUITES
from paper_tables.claims.verdict import OVER_UPDATES, Part, missing
from paper_tables.frame import Study, diagnostics
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.estimate import AVERAGE

Array = NDArray[np.float64]

RESAMPLES = 4000  # our choice: 95 % for nine steps together leave 11 draws beyond each end
LEVEL = 0.95
# Our choice: neighbouring updates resemble each other (correlations of 0.4 to 0.5, gone after some ten updates), hence
# they are drawn in blocks (circular block bootstrap, Politis and Romano 1992); a run has four blocks at least.
BLOCK, BLOCKS = 10, 4
NORMED = ("ratio_norm", "ratio_norm_batch")  # log ratios that are multiplied by the step's std


class Evidence:
    """A study, what has been read of it, and studies of other settings beside it."""

    def __init__(self, study: Study, others: Sequence[Study] = ()) -> None:
        self.study, self.others = study, tuple(others)
        self._read: dict[tuple[str, int | None], pd.DataFrame] = {}

    def runs(self, *rows: str) -> tuple[ledger.Run, ...]:
        """The finished runs of `rows`."""
        return tuple(run for run in self.study.runs if run.info["row"] in rows)

    def ids(self, *rows: str) -> tuple[str, ...]:
        """The ids of their runs."""
        return tuple(run.info["run_id"] for run in self.runs(*rows))

    def behind(self, found: Interval, key: str, *rows: str) -> tuple[str, ...]:
        """The ids of the runs that a number is of: those of its seeds, for an Average with their base models'."""
        runs = self.runs(*rows, *(bases(rows) if key == AVERAGE else ()))
        return tuple(run.info["run_id"] for run in runs if run.info["seed"] in found.of_seeds)

    def seeds(self, *rows: str) -> int:
        """How many seeds they have."""
        return len({run.info["seed"] for run in self.runs(*rows)})

    def absent(self, *rows: str) -> list[str]:
        """Those of `rows` that have no finished run."""
        return [row for row in rows if not self.runs(row)]

    def with_log_ratio(self, *kinds: str) -> list[str]:
        """The rows whose recipe has one of these log ratios and that have diagnostics."""
        found = [run.info["row"] for run in self.study.runs if run.info.get("recipe", {}).get("log_ratio") in kinds]
        return [row for row in dict.fromkeys(found) if self.diagnosed(row)]

    def diagnosed(self, *rows: str) -> bool:
        """Whether each of `rows` has diagnostics of off-policy updates."""
        return all(len(self.updates(row)) for row in rows)

    def updates(self, row: str, inner: int | None = 1) -> pd.DataFrame:
        """The diagnostics of `row`: (update, trained step) of the off-policy half, or of both; see `_derived`."""
        if (row, inner) not in self._read:
            self._read[row, inner] = self._whole(row) if inner is None else self._half(row, inner)
        return self._read[row, inner]

    def _whole(self, row: str) -> pd.DataFrame:
        read = [(run, diagnostics([run], histograms=False)) for run in self.runs(row)]
        frames = [_derived(frame, run) for run, frame in read if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else diagnostics([])

    def _half(self, row: str, inner: int) -> pd.DataFrame:
        frame = self.updates(row, inner=None)
        return frame[frame["inner"] == inner]

    def make(self, rows: Sequence[str], seed: int | None = None) -> str:
        """The command that trains `rows`: of one its own, of several their suite's; under `seed` or the study's."""
        if len(rows) == 1:
            first, *others = sorted({int(run.info["seed"]) for run in self.study.runs}) if seed is None else [seed]
            more = f" and with seed {', '.join(map(str, others))}" if others else ""
            return f"`{training(self.study, rows[0], first)}`{more}"
        suites = {suite for row in rows for suite, names in SUITES.items() if row in names}
        options = "" if self.study.scale == "tiny" else f" SCALE={self.study.scale}"
        options += "" if self.study.protocol == "paired" else f" PROTOCOL={self.study.protocol}"
        options += "" if seed is None else f" SEED={seed}"
        wanted = [suite for suite in SUITES if suite in suites and not (suite == "ablation" and "table1" in suites)]
        return " and ".join(f"`make {suite}{options}`" for suite in wanted)

    def nothing(self, name: str, *rows: str, what: str) -> Part:
        """A part about `rows` that cannot be: no run of a row or of its base model, or no `what` in the runs."""
        needed = bases(rows) if what.startswith("gold") else []
        absent = self.absent(*rows) or self.absent(*needed)
        if absent:
            return missing(name, self.unfinished(absent), tuple(absent))
        apart = self._apart(rows, needed)
        if apart:
            return missing(name, apart)
        return missing(name, f"the records of {', '.join(rows)} have no {what}: repeat with FORCE=1")

    def _apart(self, rows: tuple[str, ...], needed: list[str]) -> str:
        """That no seed has all of them, with each one's seeds and what is to be trained; empty where one has."""
        seeds = {row: {int(run.info["seed"]) for run in self.runs(row)} for row in (*rows, *needed)}
        if set.intersection(*seeds.values()):
            return ""
        shared = set.intersection(*(seeds[row] for row in rows)) or set.union(*(seeds[row] for row in rows))
        seed = min(shared)
        shown = ", ".join(f"{row} ({', '.join(map(str, sorted(of)))})" for row, of in seeds.items())
        lacking = [row for row, of in seeds.items() if seed not in of]
        return f"no seed has all of {shown}: train {', '.join(lacking)} with {self.make(lacking, seed)}"

    def unfinished(self, rows: Sequence[str]) -> str:
        """That `rows` have no finished run, and what makes them."""
        return f"no finished run of {', '.join(rows)}: {self.make(rows)}"


def training(study: Study, row: str, seed: int) -> str:
    """The command that trains one row of a study."""
    scale = "" if study.scale == "tiny" else f" scale={study.scale}"
    protocol = "" if study.protocol == "paired" else f" protocol={study.protocol}"
    return f"python -m bench.train row={row}{scale}{protocol} seed={seed}"


def bases(rows: Iterable[str]) -> list[str]:
    """The base models' rows of these rows' backbones."""
    return sorted({f"{ROWS[row].backbone}_base" for row in rows})


def _derived(frame: pd.DataFrame, run: ledger.Run) -> pd.DataFrame:
    """Sums over an update's transitions, from which means over updates are made.

    Columns added: seed; n; plain, the sum of the log ratio, that of a RatioNorm divided by the step's std so that it is
    in units of the plain one; kl, the sum that eq. 7 gives for the plain one, -D/2 times its variance over noise;
    total and squares, the sums of the log ratio as it is and of its square; excess, the sum of ratio - 1.
    """
    used = frame[frame["count"] > 0].copy()
    scale = used["std"] if run.info["recipe"].get("log_ratio") in NORMED else 1.0
    n, mean, variance = used["count"], used["log_ratio_mean"], used["log_ratio_std"].fillna(0) ** 2
    # exp(x) - 1 to second order: a log ratio that is a mean over D stays below 0.01, its cube below 1e-6 of 1.
    excess = n * (mean + (mean**2 + variance) / 2)
    return used.assign(
        n=n, plain=n * mean / scale, kl=-n * run.info["latent_elements"] / 2 * variance / scale**2,
        total=n * mean, squares=(n - 1) * variance + n * mean**2, excess=excess,
    )  # fmt: skip


def sums(frame: pd.DataFrame, *columns: str) -> Array:
    """Sums over updates of `columns` per step, of all updates and of resamples of them.

    Updates are drawn in blocks, with replacement, within their run. What a step has in no update is 0.

    Args:
        frame: lines of (run, update, step).

    Returns:
        (1 + RESAMPLES, columns, steps); the first is of the updates as they were.
    """
    keys = ["run_id", "update", "step"]
    wide = frame[[*keys, *columns]].groupby(keys).sum().unstack("step", fill_value=0)
    values = np.stack([wide[column].to_numpy(dtype=np.float64) for column in columns], axis=1)
    _, size = np.unique(wide.index.get_level_values("run_id"), return_counts=True)
    return np.asarray(np.tensordot(_weights(tuple(int(n) for n in size)), values, axes=1))


@lru_cache(maxsize=16)
def _weights(sizes: tuple[int, ...]) -> Array:
    """(1 + RESAMPLES, U) how often each update of runs of these sizes is drawn; first once each."""
    generator, columns = np.random.default_rng(0), []
    for size in sizes:
        length = _length(size)
        starts = generator.integers(size, size=(RESAMPLES, -(-size // length), 1))
        drawn = (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :size] % size
        drawn += size * np.arange(RESAMPLES)[:, None]
        columns.append(np.bincount(drawn.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size))
    return np.vstack([np.ones(sum(sizes)), np.hstack(columns)])


def over_updates(draws: Array, *frames: pd.DataFrame, of: int = 1) -> Interval:
    """The percentile interval of (1 + RESAMPLES,) draws, the first being the value itself.

    It is stretched about the value to the t interval of as many blocks as were drawn (Hesterberg 2015, section 4.2;
    as in `paper_tables.statistics.bootstrap`), since few blocks know little of their own spread: four make it 1.9
    times as wide, forty 1.04. Without ends where there is but one block.

    Args:
        frames: what was summed, a row's each; the row with the fewest blocks counts.
        of: of how many intervals this is one that is searched for the worst; their common level is LEVEL.
    """
    tail = (1 - LEVEL) / 2 / of
    freedom, blocks = min(_freedom(frame) for frame in frames)
    stretch = np.nan
    if freedom:
        wanted = scipy.special.stdtrit(freedom, 1 - tail) * (blocks / freedom) ** 0.5
        stretch = wanted / scipy.special.ndtri(1 - tail)
    low, high = draws[0] + stretch * (np.quantile(draws[1:], [tail, 1 - tail]) - draws[0])
    seeds = len(set().union(*(frame["seed"] for frame in frames)))
    return Interval(float(draws[0]), float(low), float(high), OVER_UPDATES, 0, seeds, LEVEL)


def _freedom(frame: pd.DataFrame) -> tuple[int, int]:
    """Degrees of freedom of a mean over blocks that are drawn within their run, and how many blocks there are."""
    blocks = [-(-size // _length(size)) for size in frame.groupby("run_id")["update"].nunique()]
    return sum(blocks) - len(blocks), sum(blocks)


def _length(updates: int) -> int:
    return max(1, min(BLOCK, updates // BLOCKS))
