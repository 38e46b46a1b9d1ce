"""A finished run packed into a small folder, CELLS/ROW/seedN, that `bench.ledger` reads as it reads the run's own.

run.json               as the run's, without what names a machine: its absolute paths, addresses
status.json            as the run's
metrics.jsonl          as the run's
diagnostics.parquet    every number per optimizer update and step, as it was logged
histograms.parquet     of the log ratio by (inner, step, sign), summed over updates
scores.parquet         every score of every evaluation; the images' own hashes are in the run's manifests
times.jsonl            as the run's, without the hosts' names
pictures.png, .json    some prompts (rows) at every evaluation (columns), and which; only where asked for
cell.json              what the run's images, scores and weights hashed to, and the type of CPU
files.json             the sha256 of all of these

What is read from a cell gives the same tables, figures and statistics as the run, byte for byte. No torch.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import seals, strips
from bench.record import LedgerError, read_lines, write_json

if TYPE_CHECKING:
    from bench.ledger.runs import Run

CELL = "cell.json"
DIAGNOSTICS, HISTOGRAMS, SCORES = "diagnostics.parquet", "histograms.parquet", "scores.parquet"
TIMES = "times.jsonl"
SIGNS = ("negative", "positive")
LEVEL = 19  # of zstd; our choice: packing takes a second, and the files are committed
# What the image's name, the run and the update say already, and a reply, from which the score was read.
LEFT_OUT = ["image", "image_sha256", "run", "step", "reply"]
# Settings of a run.json that name a machine and change no number.
PLACES: dict[str, Any] = {"tracking": None, "judges": {}}
HOST = ("host", "git_commit")


def is_cell(folder: Path) -> bool:
    """Whether a run was packed here."""
    return (folder / CELL).exists()


def pack(run: Run, cells: Path, pictures: bool = False) -> Path:
    """Packs a finished run into `cells`/ROW/seedN, in the place of what stands there; returns that folder.

    Args:
        run: of a run folder.
        pictures: whether it keeps some of its pictures.

    Raises:
        LedgerError: the run is not finished, is a cell itself, or is not what was written.
        OSError: the cell cannot be written; what stood there is untouched.
    """
    _check(run)
    folder = cells / run.info["row"] / f"seed{run.info['seed']}"
    making = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        _write(run, making)
        if pictures:
            strips.write(run.pictures(), making)
        seals.seal(making, *sorted(path for path in making.iterdir()))
        _put(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _check(run: Run) -> None:
    if is_cell(run.path):
        raise LedgerError(f"{run.path} is packed already; name the run's own folder")
    if not run.finished:
        raise LedgerError(f"{run.path} is not finished, and packed when it is")
    if faults := seals.damaged(run.path):
        named = "; ".join(f"{run.path / name} {fault}" for name, fault in faults.items())
        raise LedgerError(f"{named}; run the row again with FORCE=1")


def _put(making: Path, folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    making.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _write(run: Run, folder: Path) -> None:
    write_json(folder / "run.json", portable(run.info))
    write_json(folder / "status.json", run.status)
    shutil.copyfile(run.path / "metrics.jsonl", folder / "metrics.jsonl")
    steps = run.diagnostics()
    if len(steps):
        named = [f"histogram_{sign}" for sign in SIGNS]
        _parquet(steps.drop(columns=named), folder / DIAGNOSTICS)
        _parquet(summed(steps), folder / HISTOGRAMS)
    if len(found := run.scores()):
        _parquet(found.drop(columns=LEFT_OUT, errors="ignore"), folder / SCORES)
    lines = [{k: v for k, v in line.items() if k not in HOST} for line in read_lines(run.path / TIMES)]
    (folder / TIMES).write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), encoding="utf-8")
    write_json(folder / CELL, {"sealed": _sealed(run.path), "cpu": cpu()})


def portable(info: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json without what names a machine: a path of the package begins at `bench`, another is its last name."""
    config = info["config"] | {key: value for key, value in PLACES.items() if key in info["config"]}
    found: dict[str, Any] = _relative({**info, "config": config})
    return found


def _relative(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _relative(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_relative(each) for each in value]
    if not (isinstance(value, str) and value.startswith("/")):
        return value
    parts = PurePosixPath(value).parts
    start = len(parts) - 1 - parts[::-1].index("bench") if "bench" in parts else len(parts) - 1
    return "/".join(parts[start:])


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    """Numbers that differ from line to line have their bytes laid out by place, which zstd shortens by a fifth."""
    dense = [str(name) for name in frame if frame[name].dtype == np.float64 and frame[name].nunique() > len(frame) / 4]
    frame.to_parquet(
        path,
        index=False,
        compression="zstd",
        compression_level=LEVEL,
        write_statistics=False,
        use_dictionary=[str(name) for name in frame if name not in dense],
        column_encoding=dict.fromkeys(dense, "BYTE_STREAM_SPLIT"),
    )


def summed(steps: pd.DataFrame) -> pd.DataFrame:
    """Counts of log ratios over all updates: a line per inner, step, sign and bin that is not empty.

    Args:
        steps: as `Run.diagnostics` gives them.
    """
    named = {f"histogram_{sign}": sign for sign in SIGNS}
    long = steps.rename(columns=named).melt(["inner", "step"], SIGNS, "sign", "pairs").explode("pairs")
    long = long[long["pairs"].notna()].reset_index(drop=True)
    pairs = pd.DataFrame(long.pop("pairs").tolist(), columns=["bin", "count"], dtype=np.int64)
    counts = pd.concat([long, pairs], axis=1).groupby(["inner", "step", "sign", "bin"], sort=True)["count"].sum()
    return counts.reset_index()


def _sealed(run: Path) -> dict[str, str]:
    """The sha256 of what the run had sealed that is not in the cell."""
    known = seals.read_signed(run / seals.FILES) if (run / seals.FILES).exists() else {}
    return {name: each[-1]["sha256"] for name, each in known.items() if "/" in name}


def cpu() -> str:
    """The type of this machine's CPU: on another one the last bits of a run may differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def diagnostics(folder: Path, histograms: bool = True) -> pd.DataFrame:
    """As `Run.diagnostics`; the histograms of an (inner, step) all stand on its first line, where they are asked for.

    Raises:
        LedgerError: a file is not what was written.
    """
    if not (folder / DIAGNOSTICS).exists():
        return pd.DataFrame()
    frame = _read(folder, DIAGNOSTICS)
    if not histograms:
        return frame
    counts = _read(folder, HISTOGRAMS)
    first = ~frame.duplicated(["inner", "step"])
    for sign in SIGNS:
        part, pairs = counts[counts["sign"] == sign], dict[tuple[int, int], list[list[int]]]()
        for inner, step, *pair in part[["inner", "step", "bin", "count"]].to_numpy().tolist():
            pairs.setdefault((inner, step), []).append(pair)
        at = zip(frame["inner"], frame["step"], first, strict=True)
        lists = [pairs.get((inner, step), []) if once else [] for inner, step, once in at]
        frame[f"histogram_{sign}"] = pd.Series(lists, index=frame.index, dtype=object)
    return frame


def lines(folder: Path) -> list[dict[str, Any]]:
    """What the lines of diagnostics.jsonl say of each optimizer update, without its histograms.

    Raises:
        LedgerError: the file is not what was written.
    """
    if not (folder / DIAGNOSTICS).exists():
        return []
    updates = _read(folder, DIAGNOSTICS).rename(columns={"step": "steps"}).groupby(["update", "inner"])
    named = [({"update": at, "inner": inner}, part.to_dict("list")) for (at, inner), part in updates]
    return [{str(name): values for name, values in lists.items()} | of for of, lists in named]


def scores(folder: Path) -> pd.DataFrame:
    """As `Run.scores`, without the columns `LEFT_OUT`.

    Raises:
        LedgerError: the file is not what was written.
    """
    return _read(folder, SCORES) if (folder / SCORES).exists() else pd.DataFrame()


def _read(folder: Path, name: str) -> pd.DataFrame:
    seals.check(folder, folder / name)
    return pd.read_parquet(folder / name)
