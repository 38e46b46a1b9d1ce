"""`python -m bench.study`: every row of the harness on the tiny scale, long enough for over-optimisation to show.

    python -m bench.study [--seeds 0,1,2] [--rows A,B] [--hours 3]    trains what has no cell yet
    python -m bench.study --settings NAME                             the rows of claim C18 with other settings
    python -m bench.study --check ROW SEED                            trains one cell anew, and compares

A run becomes a cell (`bench.cells`) under results/tiny as soon as it is finished. What has a cell is not trained again;
one that was made with other settings is refused, and FORCE=1 repeats it. An interrupted call goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from bench import cells, ledger, repeats, study_page, suite
from bench.config import Config, ConfigError
from bench.experiments import ROWS, RowError, find_row
from bench.ledger.runs import SETTINGS
from bench.record import LedgerError, forced
from bench.suite import Job

# Of claim C18, whose rows are trained again with them: a third of the rate, as the released configurations of FlowGRPO
# and GRPO-Guard have theirs (`bench.protocols`), and the scale of the advantage that the study does not take.
VARIED = {"rate_third": ("optim.rate=6.7e-4",), "global_std": ("method.advantage=global_std",)}
VARIED_ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text")
# Chosen on another seed than these; results/tiny/TRIED.md says what was tried.
SEEDS = (0, 1, 2)
UPDATES = {"geneval": 160, "pickscore": 240, "text": 160}
EVALUATE_EVERY = 40
PICTURED = SEEDS[0]  # the seed whose cells keep pictures; our choice: one strip of 100 kB a row
RESULTS = Path("results/tiny")
FAULTS = (ConfigError, RowError, LedgerError, OSError)


def configure(row: str, seed: int, overrides: Sequence[str] = (), other: str = "") -> Config:
    """The settings of a cell, of those that are varied with the key `other` of VARIED; `overrides` come last."""
    budgets = [f"tasks.{task}.updates={updates}" for task, updates in UPDATES.items()]
    name = f"study_{other}" if other else "study"
    study = ["scale=tiny", f"seed={seed}", f"evaluation.every={EVALUATE_EVERY}", f"runs=runs/{name}", f"suite={name}"]
    return suite.configure(row, [*study, *budgets, *VARIED.get(other, ()), *overrides])


def folder_of(settings: Config, kept: Path) -> Path:
    """Where the cell of these settings is, or will be."""
    return kept / settings.row / f"seed{settings.seed}"


def lacks(settings: Config, kept: Path) -> bool:
    """Whether the cell has to be made: it is not there, or it is to be repeated.

    Raises:
        LedgerError: the cell was made with other settings, prompts or weights.
    """
    folder = folder_of(settings, kept)
    if not cells.is_cell(folder) or forced(settings.force, folder):
        return True
    repeats.check_asked(ledger.read(folder), settings)
    return False


def keep(job: Job, kept: Path) -> bool:
    """Packs the run of a job that has ended well; its folder stays, without what it would go on from."""
    if job.failed:
        return False
    try:
        cells.pack(ledger.read(job.folder), kept, pictures=job.settings.seed == PICTURED)
        shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    except (LedgerError, OSError) as error:
        tqdm.write(f"bench.study: {job.name} could not be packed: {' '.join(str(error).split())}", file=sys.stderr)
        return False
    return True


def train_all(settings: Iterable[Config], kept: Path, at_once: int, hours: float) -> list[str]:
    """Trains and packs what has no cell, a seed after the other; returns what has none still.

    Raises:
        one of `FAULTS`: a cell or a run there was made with other settings; nothing was trained then.
    """
    todo = [each for each in settings if lacks(each, kept)]
    seeds = dict.fromkeys(each.seed for each in todo)
    jobs = [job for seed in seeds for job in suite.in_order([Job(each) for each in todo if each.seed == seed])]
    for job in jobs:
        repeats.check_begun(job.settings, job.folder)
    missing = [job.name for job in jobs]

    def ended(job: Job) -> None:
        if keep(job, kept):
            missing.remove(job.name)

    if jobs:
        suite.run(jobs, at_once, ended, time.monotonic() + 3600 * hours)
    return missing


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__, formatter_class=raw)
    parser.add_argument("overrides", nargs="*", help="as for bench.train: tracking=null ...")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--settings", choices=list(VARIED), default="", help="other settings, of claim C18")
    parser.add_argument("--rows", metavar="A,B", help="default: all; with --settings those of claim C18")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core, on a GPU one)")
    parser.add_argument("--check", nargs=2, metavar=("ROW", "SEED"), help="train this cell anew and compare")
    parser.add_argument("--out", type=Path, default=RESULTS, help="has cells/ and settings/NAME/cells/ (%(default)s)")
    args = parser.parse_intermixed_args(arguments)
    for seed in [*args.seeds.split(","), *(args.check or [])[1:]]:
        if not seed.isdecimal():
            parser.error(f"a seed is a whole number, found {seed!r}")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 all that was begun is packed, or the check passed; 1 it is not, or did not; 2 refused."""
    args = parse(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kept = (args.out / SETTINGS / args.settings if args.settings else args.out) / "cells"
    settled = partial(configure, overrides=args.overrides, other=args.settings)
    try:
        if args.check:
            row, seed = args.check
            return repeats.check(settled(find_row(row).name, int(seed)), kept)
        names = args.rows.split(",") if args.rows else VARIED_ROWS if args.settings else ROWS
        rows = [find_row(name).name for name in names]
        settings = [settled(row, int(seed)) for seed in args.seeds.split(",") for row in rows]
        missing = train_all(settings, kept, args.jobs or suite.rows_at_a_time(), args.hours)
        study_page.write(args.out / "cells", args.out)
    except FAULTS as error:
        print(f"bench.study: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{len(settings) - len(missing)} of {len(settings)} cells in {kept}")
    for name in missing:
        print(f"  missing: {name}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
