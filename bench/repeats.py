"""Is a cell what its settings give? Trains it anew, beside, and compares number by number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from bench import cells, ledger, train
from bench.config import Config
from bench.experiments import find_row
from bench.ledger import Run
from bench.record import LedgerError, forced

BESIDE = Path("runs/check")
LEVEL, RESAMPLES = 0.95, 2000  # our choice: the report's level; a bound then repeats to a fiftieth of the interval


def check_asked(run: Run, settings: Config) -> None:
    """Whether the run or cell is the one that these settings ask for.

    Raises:
        LedgerError: it was made with other settings, prompts or weights.
    """
    from bench import provenance

    provenance.check_same(run.info, settings, run.path)
    provenance.check_same_inputs(run.info, provenance.inputs(settings, find_row(settings.row)), run.path)


def check_begun(settings: Config, folder: Path) -> None:
    """Whether the run that may stand in `folder` can be gone on with.

    Raises:
        LedgerError: it has other settings, prompts or weights.
    """
    if (folder / "run.json").exists() and not forced(settings.force, folder):
        check_asked(ledger.read(folder), settings)


def check(settings: Config, kept: Path) -> int:
    """Trains a cell anew and prints how it compares.

    Returns 0 where it is equal to the bit or, on another type of CPU than the cell's, within the intervals; else 1.

    Args:
        settings: of the cell, as it was asked for.
        kept: the folder of cells.

    Raises:
        LedgerError: there is no such cell, or it was made with other settings.
    """
    import torch

    torch.set_num_threads(1)  # as in the study
    cell = kept / settings.row / f"seed{settings.seed}"
    if not cells.is_cell(cell):
        raise LedgerError(f"no cell at {cell}; python -m bench.study makes it")
    committed = ledger.read(cell)
    check_asked(committed, settings)
    anew = ledger.read(train.run(replace(settings, runs=str(BESIDE), force="1", tracking=None)))
    return _tell(committed, anew)


def _tell(committed: Run, anew: Run) -> int:
    name = f"{anew.info['row']} seed {anew.info['seed']}"
    differing = differences(committed, anew)
    if not differing:
        print(f"{name}: equal to the bit in metrics, diagnostics and scores")
        return 0
    outside = [line for line, inside in compared(committed, anew) if not inside]
    made_on, here = _cpu(committed), cells.cpu()
    print(f"{name}: not equal to the bit in {', '.join(differing)} (made on {made_on}, here {here})")
    for line in outside:
        print(f"  {line}")
    verdict = "outside" if outside else "all within"
    print(f"{name}: last scores {verdict} the intervals over prompts of the committed ones")
    if made_on == here:
        print(f"{name}: on one type of CPU equal bits are wanted; other packages than {_packages(committed)}?")
    return int(bool(outside) or made_on == here)


def differences(committed: Run, anew: Run) -> list[str]:
    """Which of metrics, diagnostics and scores are not the same to the bit."""
    names = ("metrics", "diagnostics", "scores")
    return [name for name in names if not _equal(getattr(committed, name)(), getattr(anew, name)())]


def _equal(kept: pd.DataFrame, made: pd.DataFrame) -> bool:
    """In all that a cell keeps per line, rounding nothing."""
    columns = [name for name in kept if not str(name).startswith("histogram_")]
    return set(columns) <= set(made) and bool(kept[columns].equals(made[columns]))


def compared(committed: Run, anew: Run) -> Iterator[tuple[str, bool]]:
    """Per scorer of the last evaluation: what was found anew beside the committed interval, and whether it is inside.

    The interval is of the mean over prompts: a bootstrap over prompts, whose members stay together.
    """
    kept, made = (_prompt_means(run.scores()) for run in (committed, anew))
    for scorer, means in kept.groupby("scorer"):
        now = float(made[made.index.get_level_values("scorer") == scorer].mean())
        low, high = interval(means.to_numpy())
        yield f"{scorer}: committed {means.mean():.4f} [{low:.4f}, {high:.4f}], now {now:.4f}", low <= now <= high


def _prompt_means(scores: pd.DataFrame) -> pd.Series:
    """Of the last evaluation's scores: the mean over members, by scorer and prompt."""
    last = scores[(scores["update"] == scores["update"].max()) & scores["score"].notna()]
    means: pd.Series = last.groupby(["scorer", "prompt_id"])["score"].mean()
    return means


def interval(means: np.ndarray) -> tuple[float, float]:
    """Bounds of the mean of (P,) prompt means by the percentile bootstrap; the same at each call."""
    if np.ptp(means) == 0:
        return float(means[0]), float(means[0])
    drawn = bootstrap(
        (means,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=0
    ).confidence_interval
    return float(drawn.low), float(drawn.high)


def _packages(cell: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in cell.info["versions"].items())


def _cpu(cell: Run) -> str:
    return str(json.loads((cell.path / cells.CELL).read_text(encoding="utf-8"))["cpu"])
