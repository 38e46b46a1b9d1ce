"""From run folders to the data frames that tables and figures are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import ledger, seals
from bench.experiments import GOLD, PAIRS, PROXIES, ROWS, Pair, Row, row_of
from bench.protocols import PROTOCOLS
from paper_tables.average import average, relative
from paper_tables.comparable import StudyError as StudyError
from paper_tables.comparable import check_settings, check_starts, check_weights, common, label

# Figure 2 of the paper shows FlowGRPO on SD3.5-M; the others stand in where that pair has not been run.
PAIR_ORDER = (
    ("sd3", "text"),
    ("sd3", "geneval"),
    ("sd3", "pickscore"),
    ("flux", "text"),
    ("flux", "geneval"),
)
IDENTITY = ("run_id", "row", "method", "backbone", "task", "seed", "updates")
Scores = dict[str, float]
RECORD = (*IDENTITY, "scale", "hashes", "recipe", "config")


@dataclass(frozen=True, eq=False)  # a study is itself alone, so that what is read of it can be remembered
class Study:
    """The runs of one folder.

    Attributes:
        scale: key of `bench.experiments.GOLD`.
        protocol: of `bench.protocols.PROTOCOLS`.
        runs: the finished runs, in the order of `bench.experiments.ROWS`, then by seed.
        unfinished: one sentence for each run that is not finished.
    """

    scale: str
    runs: tuple[ledger.Run, ...]
    unfinished: tuple[str, ...] = ()
    protocol: str = "paired"

    @property
    def golds(self) -> tuple[str, ...]:
        """Names of the gold scorers at this scale."""
        return GOLD[self.scale]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows with a finished run, in the order of the runs; last those that no table of the paper has."""
        return tuple({run.info["row"]: row_of(run.info) for run in self.runs}.values())

    def of(self, rows: Iterable[Row]) -> tuple[ledger.Run, ...]:
        """The finished runs of `rows`."""
        names = {row.name for row in rows}
        return tuple(run for run in self.runs if run.info["row"] in names)


def read(root: Path) -> Study:
    """The study in the run folders under `root`.

    Raises:
        StudyError: no folder, nothing finished, two scales or protocols in one folder, random weights, an unreadable
            record, or runs of one backbone that differ in more than their recipe: in prompts, noise, weights, judges,
            a setting that is not the row's own under the protocol, or in the images before any update.
    """
    if not root.is_dir():
        raise StudyError(f"no run folder at {root}: train with `make table1`, or name another folder with --runs")
    runs = _attempt(lambda: ledger.load(root), root)
    for run in runs:
        _check_record(run)
        _attempt(partial(_check_seals, run), run.path)
    runs = sorted(runs, key=_order)
    finished = tuple(run for run in runs if run.finished)
    unfinished = tuple(_unfinished(run) for run in runs if not run.finished)
    if not finished:
        found = "; ".join(unfinished) or "no run at all"
        raise StudyError(f"no finished run in {root}, found {found}: train or resume with `make table1`")
    check_weights(finished)
    scale, protocol = common(finished, "scale", tuple(GOLD)), common(finished, "protocol", PROTOCOLS)
    check_settings(finished)
    _attempt(partial(check_starts, finished), root)
    return Study(scale, finished, unfinished, protocol)


def find_pair(study: Study) -> Pair | None:
    """The first pair of PAIR_ORDER of which both rows have a finished run."""
    done = {run.info["row"] for run in study.runs}
    for where in PAIR_ORDER:
        for pair in PAIRS:
            if (pair.guard.backbone, pair.guard.task) == where and {pair.base.name, pair.guard.name} <= done:
                return pair
    return None


@lru_cache(maxsize=4)
def curves(study: Study) -> pd.DataFrame:
    """One line per run and evaluation.

    Columns: run_id, row, method, backbone, task, seed, updates, update, proxy (of the row's task; NaN for a
    base model), every proxy/* and gold/* metric with its _n, _missing and _definition, relative/* (gold / gold of
    the base model of the same backbone and seed), gold/average, and unjudged, the keys that `bench.judge` is to fill.
    NaN where a score or the base is missing. It is made once: change a copy.
    """
    frame = pd.DataFrame([line for run in study.runs for line in _evaluations(study, run)])
    keys = [f"gold/{gold}" for gold in study.golds]
    is_base = frame["row"].map(lambda name: name in ROWS and not ROWS[name].recipe)
    base = frame[is_base].drop_duplicates(["backbone", "seed"]).set_index(["backbone", "seed"])[keys]
    index = pd.MultiIndex.from_frame(frame[["backbone", "seed"]])
    scores, base_scores = (f.to_numpy(dtype=np.float64) for f in (frame[keys], base.reindex(index)))
    frame[[f"relative/{gold}" for gold in study.golds]] = relative(scores, base_scores)
    return frame.assign(**{"gold/average": average(scores, base_scores)})


def seed_mean(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Curves averaged over seeds: a line per row and update; seeds, proxy, gold/average, relative/*."""
    values = ["proxy", "gold/average", *(f"relative/{gold}" for gold in study.golds)]
    groups = frame.groupby(["row", "method", "backbone", "task", "update"], sort=False)
    mean = groups[values].mean()
    return mean.assign(seeds=groups["seed"].nunique()).reset_index()


def diagnostics(runs: Iterable[ledger.Run], histograms: bool = True) -> pd.DataFrame:
    """Diagnostics of `runs`: a line per run, update and step, with run_id, row, method, seed and clip.

    `inner` is 0 for a rollout's first, on-policy update and 1 for every later one. Runs without any add nothing.
    """
    frames: list[pd.DataFrame] = []
    for run in runs:
        frame: pd.DataFrame = _attempt(partial(run.diagnostics, histograms), run.path / "diagnostics.jsonl")
        if len(frame):
            inner = frame["inner"].clip(upper=1)
            frames.append(frame.assign(**_identity(run), inner=inner, clip=run.info["recipe"]["clip"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"inner": []})


def _attempt(read_record: Callable[[], Any], path: Path) -> Any:
    """`read_record()`, or a StudyError that names `path`."""
    try:
        return read_record()
    except StudyError:
        raise
    except ledger.LedgerError as error:
        raise StudyError(_one_line(error)) from error
    except (ValueError, KeyError, OSError) as error:
        raise StudyError(f"cannot read {path}: {_one_line(error)}; repeat that run with FORCE=1") from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _check_record(run: ledger.Run) -> None:
    absent = [key for key in RECORD if key not in run.info]
    if absent:
        raise StudyError(f"the record of {run.path} lacks {', '.join(absent)}; repeat that run with FORCE=1")


def _check_seals(run: ledger.Run) -> None:
    """Whether the numbers that are shown are those that were written."""
    for path in run.record:
        seals.check(run.path, path)


def _order(run: ledger.Run) -> tuple[int, str, int]:
    names = list(ROWS)
    row = run.info["row"]
    return (names.index(row) if row in ROWS else len(names), row, int(run.info["seed"]))


def _unfinished(run: ledger.Run) -> str:
    status = {"state": "not started", "update": 0, "of": run.info["updates"]} | run.status
    reason = ", " + _one_line(status["error"]) if status.get("error") else ""
    return f"{label(run)}: {status['state']} at update {status['update']} of {status['of']}{reason}"


def _identity(run: ledger.Run) -> dict[str, Any]:
    return {key: run.info[key] for key in IDENTITY}


def _evaluations(study: Study, run: ledger.Run) -> list[dict[str, Any]]:
    """The run's evaluations: a line each, though what was judged later is a line of its own in its metrics."""
    keys = [f"proxy/{name}" for name in PROXIES] + [f"gold/{name}" for name in study.golds]
    columns = [key + suffix for key in keys for suffix in ("", "_n", "_missing")]
    found: dict[int, Scores] = {}
    for line in _attempt(run.lines, run.path / "metrics.jsonl"):
        known = {name: float(line[name]) for name in columns if line.get(name) is not None}
        if known:
            update = int(line["update"])
            found[update] = known | found.get(update, {})
    definitions = {f"{key}_definition": run.info.get("definitions", {}).get(key.split("/")[1], "") for key in keys}
    task, left = run.info["task"], [key for key in keys if key.split("/")[1] in later(run)]
    return [
        {"update": update, **dict.fromkeys(columns, np.nan), **scores, **_identity(run), **definitions,
         "proxy": scores.get(f"proxy/{task}", np.nan),
         "unjudged": " ".join(key for key in left if f"{key}_n" not in scores)}
        for update, scores in _points(study, run, found)
    ]  # fmt: skip


def later(run: ledger.Run) -> list[str]:
    """The judges that the run left to `bench.judge`."""
    return list(run.info["config"].get("evaluation", {}).get("later", []))


def _points(study: Study, run: ledger.Run, found: dict[int, Scores]) -> list[tuple[int, Scores]]:
    """Those of `found` that are evaluations; where golds are judged later, also a last one that nobody has judged yet.

    By update, as are those found.
    """
    own = [f"gold/{name}_n" for name in study.golds if name not in later(run)]
    task, planned = run.info["task"], run.info["updates"]
    if not own:
        judged = {update for update, scores in found.items() if any(name.endswith("_n") for name in scores)}
        return [(update, found.get(update, {})) for update in sorted({*judged, planned})]
    points = [(update, scores) for update, scores in sorted(found.items()) if not scores.keys().isdisjoint(own)]
    if not points:
        raise StudyError(f"{label(run)} is finished but has no gold score in {run.path}: repeat it with FORCE=1")
    if task and points[-1][0] < planned:
        last = f"{points[-1][0]} of {planned}"
        raise StudyError(
            f"{label(run)} is finished but was last judged at update {last}: "
            "`python -m bench.judge RUNS` judges what is missing; if nothing is, repeat the run with FORCE=1"
        )
    return points
