"""What the judges said of a run's images: which score files lack what, how they are completed, and their metrics."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

import gold_metrics
from bench import seals
from bench.ledger import Run
from bench.record import LedgerError, read_lines
from gold_metrics import image_set
from gold_metrics.cache import Cache, key
from gold_metrics.image_set import MANIFEST, ImageSet, ImageSetError
from gold_metrics.judging import COLUMNS, Progress, frame_of
from gold_metrics.scorer import Score, Scorer, definition_hash


@dataclass(frozen=True)
class Point:
    """An image set of a run.

    Attributes:
        run: the run's folder.
        own: the proxy whose own set it is; empty for the gold set.
    """

    run: Path
    own: str
    update: int

    @property
    def images(self) -> Path:
        """The image set."""
        return self.run / "images" / self.own / f"update-{self.update:06d}"

    @property
    def scores(self) -> Path:
        """The file of its scores."""
        return self.run / "scores" / self.own / f"update-{self.update:06d}.parquet"

    @property
    def asked(self) -> Path:
        """Scores that were had before the file could be written; a hidden folder beside it."""
        return self.scores.with_name(f".{self.scores.stem}.asked")


def points_of(run: Run) -> list[Point]:
    """The image sets of a run, by update, the gold set first."""
    folders = {own: run.path / "images" / own for own in ("", *own_sets(run))}
    found = [
        Point(run.path, own, int(path.name.removeprefix("update-")))
        for own, folder in folders.items()
        for path in folder.glob("update-*")
    ]
    return sorted(found, key=lambda point: (point.update, point.own))


def own_sets(run: Run) -> list[str]:
    """The proxies with evaluation prompts of their own."""
    return list(run.info["config"]["evaluation"].get("proxies", {}))


def count(point: Point) -> int:
    """How many images the point has by its manifest; 0 where that cannot be read."""
    try:
        return (point.images / MANIFEST).read_bytes().count(b"\n")
    except OSError:
        return 0


def read(point: Point, anew: bool = False) -> pd.DataFrame:
    """The scores that a point has; none where there is no file.

    Args:
        anew: a damaged file counts as none.

    Raises:
        LedgerError: the file is not what was written.
    """
    if not point.scores.exists():
        return frame_of([])
    try:
        seals.check(point.run, point.scores)
        return pd.read_parquet(point.scores)[list(COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        if anew:
            return frame_of([])
        raise LedgerError(
            f"{point.scores} is not what was written; its images are judged again by `python -m bench.judge --anew`"
        ) from error


def lacking(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Who of the judges called `names` has no score in the frame, or lacks one."""
    had = frame.groupby("scorer")["score"].apply(lambda scores: bool(scores.notna().all()))
    return [name for name in names if not had.get(name, False)]


def complete(
    point: Point, kept: pd.DataFrame, names: Sequence[str], scorers: Sequence[Scorer], progress: Progress
) -> pd.DataFrame:
    """Asks the scorers for what is not among the kept scores and writes the file of all scores anew.

    An interrupted call goes on where it was; the file is the one that a run which asks all judges itself would write.

    Args:
        names: of all judges of the image set, in the order of the rows.

    Raises:
        ImageSetError, LedgerError: the set or an image in it is not what was written; the message has its path.
        OSError: the scores cannot be written.
    """
    seals.check(point.run, point.images / MANIFEST)
    seen = image_set.read(point.images)
    if fault := next(filter(None, seen.faults), ""):
        raise ImageSetError(fault)
    for scorer in scorers:
        _remember(point.asked, scorer, seen, kept)
    of = f"{point.run.parent.name}-{point.run.name}"
    fresh = gold_metrics.judge(seen, scorers, progress, run=of, step=point.update, cache=point.asked)
    old = kept[~kept["scorer"].isin([scorer.name for scorer in scorers])]
    frame = frame_of([row for name in names for part in (old, fresh) for row in _rows(part, name)])
    seals.replace(point.run, point.scores, partial(gold_metrics.write_scores, frame))
    return frame


def _remember(asked: Path, scorer: Scorer, seen: ImageSet, kept: pd.DataFrame) -> None:
    """Puts the images' scores that the scorer gave before where `judge` looks for them, so that it asks for none again.

    A score of several images is asked for again.
    """
    mine = (kept["scorer"] == scorer.name) & (kept["definition"] == definition_hash(scorer.definition))
    had = {
        (row["image"], row["image_sha256"]): Score(row["score"], row["reason"], row["reply"])
        for row in kept[mine & kept["score"].notna()].to_dict("records")
    }
    known = Cache(asked, scorer)
    keys = {key(seen, i): had.get((entry.file, entry.sha256)) for i, entry in enumerate(seen.entries)}
    known.add({each: score for each, score in keys.items() if score and each not in known})


def _rows(frame: pd.DataFrame, name: str) -> list[tuple[Any, ...]]:
    part = frame[frame["scorer"] == name]
    return list(part.astype(object).where(part.notna(), None).itertuples(index=False, name=None))


def log(run: Run, update: int, found: Mapping[str, float]) -> bool:
    """Has each of these metrics of an update once in metrics.jsonl, as a line at its end; whether that changed it.

    What is there already with the same value stays where it is; another value is taken out. The file is replaced whole.

    Raises:
        LedgerError: the file is not what was written.
    """
    path = run.path / "metrics.jsonl"
    seals.check(run.path, path)
    rows = read_lines(path)
    known = {name: value for row in rows if row["update"] == update for name, value in row.items()}
    shown = {name: value if math.isfinite(value) else None for name, value in found.items()}
    fresh = {name: value for name, value in shown.items() if name not in known or known[name] != value}
    if not fresh:
        return False
    kept = [_without(row, fresh) if row["update"] == update else row for row in rows]
    epoch = update // run.info["config"]["optim"]["updates_per_rollout"]
    written = [*filter(None, kept), {"update": update, "epoch": epoch} | fresh]
    seals.replace(run.path, path, partial(_write_lines, written))
    return True


def _without(row: dict[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The line without these metrics; nothing where it had no others."""
    kept = {name: value for name, value in row.items() if name not in names}
    return kept if kept == row or len(kept) > len(("update", "epoch")) else {}


def _write_lines(rows: Sequence[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def sweep(run: Path) -> None:
    """Removes the image sets and files that were in the making when a process was killed."""
    made = [*run.glob("images/**/.update-*"), *run.glob("scores/**/.*"), *run.glob("*.partial")]
    for path in made:
        # What is for MLflow may be in the making now: it is not the run's.
        if path.suffix != ".asked" and path.name != "mlflow.json.partial" and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
