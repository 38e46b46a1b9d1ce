"""The reading side of a run's folder, which is the truth about it. Its files:

run.json           what was asked and with what it was made; the same for the same request, byte for byte
status.json        state, update, planned updates, error
metrics.jsonl      a line per update: {"update": 12, "epoch": 6, "proxy/reward": ..., ...}
diagnostics.jsonl  a line per optimizer update: log ratios, clipping and gradient norms per trained step
times.jsonl        a line per epoch: seconds, host; the only file that differs between equal runs
scores/            a parquet file per evaluation, a row per image and scorer
images/            an image set per evaluation
scores/PROXY/, images/PROXY/   the same of a proxy that is scored on prompts of its own
lora/              the trained adapter, loadable by diffusers

A cell (`bench.cells`), a finished run packed into few small files, is read in the same way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import cells, seals, strips
from bench.experiments import GOLD
from bench.ledger.scaled import scaled
from bench.record import METRIC_FILES, LedgerError, read_lines
from bench.strips import Picture

NAME = r"\w[\w.-]*"  # of a row
SETTINGS = "settings"  # beside a study's runs: folders of such with other settings
SECTIONS = {"log_ratio_mean": "ratio/mean", "log_ratio_std": "ratio/std", "grad_norm": "grad/step"}


@dataclass(frozen=True)
class Run:
    """One run, read from its folder or from its cell; nothing is cached."""

    path: Path
    info: dict[str, Any]
    status: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run came to its planned end."""
        return self.status.get("state") == "finished"

    @property
    def settings(self) -> dict[str, Any]:
        """The composed configuration, flat: "optim.rate" and the like."""
        return flatten(self.info["config"])

    @property
    def record(self) -> tuple[Path, ...]:
        """The files of the numbers that are shown of the run, beside its scores."""
        packed = (cells.DIAGNOSTICS, cells.HISTOGRAMS) if cells.is_cell(self.path) else ("diagnostics.jsonl",)
        return tuple(self.path / name for name in ("run.json", "metrics.jsonl", *packed))

    def metrics(self) -> pd.DataFrame:
        """A row per update that logged anything, sorted by update, columns as logged."""
        rows = self.lines()
        return pd.DataFrame(rows, columns=None if rows else ["update", "epoch"])

    def lines(self) -> list[dict[str, Any]]:
        """The same as it was logged; a frame of it takes longer than reading it."""
        return read_lines(self.path / "metrics.jsonl")

    def diagnostics(self, histograms: bool = True) -> pd.DataFrame:
        """A row per (update, trained step): every list of a line is spread over the steps.

        In a cell the histograms of all updates are one, on the first row of their step; they are read where asked for.

        Raises:
            LedgerError: a line is damaged, or a cell's file is not what was written.
        """
        if cells.is_cell(self.path):
            return cells.diagnostics(self.path, histograms)
        rows = []
        for line in read_lines(self.path / "diagnostics.jsonl"):
            lists = {k: v for k, v in line.items() if isinstance(v, list)}
            single = {k: v for k, v in line.items() if k not in lists}
            lists["step"] = lists.pop("steps")
            rows += [single | dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        return pd.DataFrame(rows)

    def scores(self) -> pd.DataFrame:
        """Every evaluation's scores: a row per image (or set) and scorer, with the columns `update` and `own`.

        `own` is the proxy whose own prompts were scored; empty for the gold set. A cell has no hashes of images.

        Raises:
            LedgerError: a file is not what was written.
        """
        if cells.is_cell(self.path):
            return cells.scores(self.path)
        root, parts = self.path / "scores", []
        for path in sorted(root.rglob("update-*.parquet")):
            update, own = int(path.stem.removeprefix("update-")), "" if path.parent == root else path.parent.name
            seals.check(self.path, path)
            parts.append(pd.read_parquet(path).assign(update=update, own=own))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def times(self) -> pd.DataFrame:
        """A row per epoch, and per evaluation with its `update`: seconds or evaluation_seconds, ranks.

        What was done again after an interruption is there again.
        """
        return pd.DataFrame(read_lines(self.path / cells.TIMES))

    def pictures(self) -> list[Picture]:
        """What the run painted for some prompts, evaluation by evaluation; none of a cell that keeps none.

        Raises:
            LedgerError: a file is not what was written.
            OSError: a picture cannot be read.
        """
        return strips.read(self.path) if cells.is_cell(self.path) else strips.painted(self.path)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def folders(root: Path) -> list[Path]:
    """The folders `root`/ROW/seedN that hold a run, in the order of their paths.

    Raises:
        LedgerError: `root` is not there.
    """
    if not root.is_dir():
        raise LedgerError(f"no folder of runs at {root}; train some first: make table1")
    return [path.parent for path in sorted(root.glob("*/seed*/run.json"))]


def varied(root: Path) -> dict[str, Path]:
    """The folders of a study's runs with other settings, by what they are called: ROOT/../settings/NAME/`root.name`."""
    return {folder.parent.name: folder for folder in sorted(root.parent.glob(f"{SETTINGS}/*/{root.name}"))}


def load(root: Path) -> list[Run]:
    """Every run of `folders`.

    Raises:
        LedgerError: as `folders`, or a run's run.json or status.json cannot be read.
    """
    return [read(folder) for folder in folders(root)]


def read(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        LedgerError: run.json or status.json cannot be read, or the row's name or the seed is none.
    """
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        status_file = folder / "status.json"
        status = json.loads(status_file.read_text(encoding="utf-8")) if status_file.exists() else {}
        if not (isinstance(info, dict) and isinstance(status, dict)):
            raise ValueError("wanted an object in each file")
        _check_names(info)
    except (OSError, ValueError) as error:
        raise LedgerError(f"the record in {folder} cannot be read ({error}); run the row again with FORCE=1") from error
    return Run(folder, info, status)


def _check_names(info: Mapping[str, Any]) -> None:
    """Whether the row and the seed can be parts of a path: what is packed or drawn of a run is named after them."""
    row, seed = info.get("row", "row"), info.get("seed", 0)
    if not (isinstance(row, str) and re.fullmatch(NAME, row)):
        raise ValueError(f"wanted a row's name of letters, digits, '_', '.' and '-', found {row!r}")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"wanted a seed that is a whole number, found {seed!r}")


def points(run: Run, seen: Mapping[str, int] | None = None) -> Iterator[tuple[str, float | None, int]]:
    """What the mirror shows of a run: (name, value, update) of every logged number and the per-step diagnostics.

    Then what `scaled` makes of the scores. None stands for a value that is not finite. `seen` says how many lines of
    each file to leave out, with what follows from them alone.

    Raises:
        LedgerError: a line does not hold what the writer puts there.
    """
    skip = dict.fromkeys(METRIC_FILES, 0) | dict(seen or {})
    for file, of_line in {"metrics.jsonl": _measured, "diagnostics.jsonl": _diagnosed}.items():
        for number, row in enumerate(_lines(run, file, skip), start=skip[file] + 1):
            try:
                yield from of_line(row)
            except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
                raise LedgerError(
                    f"{run.path / file}, line {number} is damaged ({error!r}); delete it or run the row again"
                ) from error
    yield from _scaled(run, skip["metrics.jsonl"])


def _lines(run: Run, file: str, skip: Mapping[str, int]) -> list[dict[str, Any]]:
    """The lines of a file that are not left out; a cell, which never grows, has its diagnostics in another form."""
    if file == "diagnostics.jsonl" and cells.is_cell(run.path):
        return [] if skip["metrics.jsonl"] else cells.lines(run.path)
    return read_lines(run.path / file)[skip[file] :]


def _scaled(run: Run, seen: int) -> Iterator[tuple[str, float | None, int]]:
    """What follows from all lines and did not follow from the first `seen`: a late score of the base gives them all."""
    rows, task = read_lines(run.path / "metrics.jsonl"), run.info.get("task", "")
    golds = GOLD.get(run.info.get("scale", ""), ())
    before = scaled(rows[:seen], task, golds)
    for (name, update), value in scaled(rows, task, golds).items():
        if (name, update) not in before:
            yield name, _finite(value), update


def _measured(row: Mapping[str, Any]) -> Iterator[tuple[str, float | None, int]]:
    for name, value in row.items():
        if name not in ("update", "epoch"):
            yield name, _finite(value), int(row["update"])


def _diagnosed(row: Mapping[str, Any]) -> Iterator[tuple[str, float | None, int]]:
    half = "off_policy" if row["inner"] else "on_policy"
    for i, step in enumerate(row["steps"]):
        for key, section in SECTIONS.items():
            yield f"{section}/{half}/{step:02d}", _finite(row[key][i]), int(row["update"])


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
