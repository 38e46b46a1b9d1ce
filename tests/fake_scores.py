"""Studies whose scores are known: run folders with score files, or the same in memory where a test needs hundreds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fake_ledger import write_run
from numpy.typing import NDArray

from bench.experiments import GOLD, PROXIES, ROWS
from bench.ledger import Run
from bench.record import Record
from paper_tables.frame import Study

Scores = Mapping[str, NDArray[np.float64]]  # by scorer: (P, G), a row of NaN for a prompt that it does not judge
GOLDS = GOLD["tiny"]


def lines(scores: Scores, part: Mapping[int, str] | None = None) -> pd.DataFrame:
    """A frame as the judges write it; a single NaN is a score that could not be had."""
    parts = []
    for scorer, given in scores.items():
        values = np.asarray(given, dtype=float)
        prompts, members = values.shape
        judged = np.ones(prompts, dtype=bool) if members == 1 else np.isfinite(values).any(axis=1)
        where = np.repeat(np.flatnonzero(judged), members)
        numbers = {"prompt_id": [f"p{p:03d}" for p in where], "seed": np.tile(np.arange(members), judged.sum())}
        tags = [(part or {}).get(int(p), "") for p in where]
        parts.append(pd.DataFrame({**numbers, "scorer": scorer, "score": values[judged].ravel(), "part": tags}))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(reason=np.where(frame["score"].isna(), "no answer", ""))


def write_scored(
    root: Path, row: str, at: Mapping[int, Scores], seed: int = 0, *, own: str = "", **changes: Any
) -> Path:
    """A run folder whose score files and metrics are these scores, by update."""
    end = max(at) if ROWS[row].recipe else 0
    folder = write_run(root, row, seed, diagnosed=False, **({"updates": end} | changes))
    (folder / "metrics.jsonl").unlink()
    record = Record(folder)
    target = folder / "scores" / own
    target.mkdir(parents=True)
    for update, scores in at.items():
        lines(scores).to_parquet(target / f"update-{update:06d}.parquet")
        record.append("metrics", metrics(update, scores))
    return folder


def metrics(update: int, scores: Scores) -> dict[str, Any]:
    """The line that an evaluation with these scores leaves."""
    line: dict[str, Any] = {"update": update, "epoch": update // 2}
    for scorer, values in scores.items():
        section = "proxy" if scorer in PROXIES else "gold" if scorer in GOLDS else "picture"
        number = int(np.isfinite(values).sum())
        line |= {f"{section}/{scorer}": float(np.nanmean(values)), f"{section}/{scorer}_n": number}
        line[f"{section}/{scorer}_missing"] = 0
    return line


@dataclass(frozen=True)
class Memory(Run):
    """A run whose scores were never written."""

    at: Mapping[int, Scores] = field(default_factory=dict)

    def scores(self) -> pd.DataFrame:
        """As `Run.scores`."""
        return pd.concat([lines(s).assign(update=u, own="") for u, s in self.at.items()], ignore_index=True)

    def lines(self) -> list[dict[str, Any]]:
        """As `Run.lines`, and so `Run.metrics`."""
        return [metrics(update, scores) for update, scores in self.at.items()]


def memory_study(runs: Mapping[tuple[str, int], Mapping[int, Scores]]) -> Study:
    """A study of the scores by (row, seed) and update."""
    found = []
    for (name, seed), at in runs.items():
        row = ROWS[name]
        info = {"row": name, "seed": seed, "backbone": row.backbone, "task": row.task, "run_id": f"{name}-{seed}"}
        found.append(Memory(Path("nowhere"), info | {"updates": max(at)}, {"state": "finished"}, at))
    return Study("tiny", tuple(found))


def golds(values: NDArray[np.float64]) -> Scores:
    """All golds alike, (P, G)."""
    return dict.fromkeys(GOLDS, values)
