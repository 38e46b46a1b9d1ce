"""What a row has spent by each of its evaluations, in every unit that a comparison at equal budget may ask for."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pandas as pd

from bench import ledger
from bench.record import LedgerError, read_lines
from paper_tables.frame import Study, StudyError
from paper_tables.statistics.panel import cube

# Column to the key of run.json's `cost`, which is per optimizer update.
COSTS = {
    "images": "images",
    "forwards": "rollout_forwards",
    "transitions": "trained_transitions",
    "decodes": "decodes",
}


def budgets(study: Study, row: str) -> pd.DataFrame:
    """Spent by each evaluated update: update, images, forwards, transitions, decodes, device_seconds.

    Images that were rewarded, forwards of rollouts, transitions trained on, images decoded; seconds of rollout and
    update times the number of devices, an epoch that was repeated after an interruption counted once, evaluations
    left out, mean over seeds. NaN where the record does not have them.
    """
    found = sorted({update for update, _ in cube(study, row).columns})
    runs = [run for run in study.runs if run.info["row"] == row]
    frame = pd.DataFrame({"update": found})
    for column, key in COSTS.items():
        each = {float(run.info.get("cost", {}).get(key, np.nan)) for run in runs}
        frame[column] = frame["update"] * (each.pop() if len(each) == 1 else np.nan)
    spent = [_seconds(run) for run in runs]
    seconds = [[each.get(update, np.nan) for update in found] for each in spent]
    return frame.assign(device_seconds=np.mean(seconds, axis=0) if seconds else np.nan)


def _seconds(run: ledger.Run) -> dict[int, float]:
    """Device seconds by update: of all epochs that were needed for it."""
    try:
        lines, logged = read_lines(run.path / "times.jsonl"), run.lines()
    except (LedgerError, OSError) as error:
        raise StudyError(" ".join(str(error).split())) from error
    seconds = {int(line["epoch"]): line["seconds"] * line.get("ranks", 1) for line in lines if "seconds" in line}
    last: dict[int, int] = {}  # an evaluation's line says how many epochs are finished
    for line in logged:
        last[line["update"]] = max(line.get("epoch", 0), last.get(line["update"], 0))
    epochs = sorted(seconds)
    total = dict(zip(epochs, accumulate(seconds[epoch] for epoch in epochs), strict=True))
    trained = {update: total.get(epoch, np.nan) for update, epoch in last.items() if update > 0}
    return {0: 0.0} | (trained if seconds else {})
