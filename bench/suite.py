"""`python -m bench.suite table1`: every row of a table, several at a time, finished ones skipped.

Rows run in processes forked from a server that has imported the libraries once; each writes its output to `log.txt`
in its run folder. `--list` prints the rows instead, once their settings are found to be good; it imports no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import json
import math
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from tqdm import tqdm

from bench import addresses, config, refusals, train
from bench.config import Config, ConfigError
from bench.experiments import SUITES, RowError, find_row
from bench.record import LedgerError

POLL = 0.5  # seconds


def rows_of(suite: str, chosen: str) -> list[str]:
    """The rows of a suite, or those of them that `chosen` names, with commas between, in the suite's order.

    Raises:
        RowError: it names one that is not the suite's.
    """
    names = chosen.split(",") if chosen else SUITES[suite]
    for name in names:
        if name not in SUITES[suite]:
            raise RowError(f"{suite} has no row {name!r}; its rows: {', '.join(SUITES[suite])}")
    return [row for row in SUITES[suite] if row in names]


def configure(row: str, overrides: Sequence[str]) -> Config:
    """The configuration of one row.

    Raises:
        ConfigError: an override names what is not, or gives it a value that it cannot have.
    """
    config.register()
    try:
        settings = copy.deepcopy(_composed(tuple(overrides)))
        settings.row = row
        return config.plain(settings)
    except refusals.REFUSED as error:
        raise ConfigError(refusals.explained(error)) from error


@functools.lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """The settings of every row, of which a row's own follow once it is named; composing takes a tenth of a second."""
    with initialize_config_module("bench.conf", version_base="1.3"):
        return compose("train", list(overrides))


def forwards_of_epoch(recipe: str, steps: int) -> float:
    """Transformer forwards that an epoch of `steps` steps costs per member, a backward counted as two of them."""
    import baselines

    plan = (baselines.RECIPES | baselines.ABLATION)[recipe].plan
    return plan.cost(steps).forwards + 3 * plan.trained_fraction * (steps - 1)


class Job:
    """One row of a suite: its settings, its process once it runs, and how far its record says it is."""

    def __init__(self, settings: Config) -> None:
        row = find_row(settings.row)
        addresses.check(settings.tracking, settings.judges)
        self.name, self.settings = f"{row.name} seed {settings.seed}", settings
        self.folder = config.folder_of(settings, row)
        self.planned = config.planned_updates(settings, row)
        self.work = self.planned * forwards_of_epoch(row.recipe, settings.sampling.steps) if row.recipe else 0.0
        self.process: BaseProcess | None = None

    def start(self, context: ForkServerContext) -> None:
        """Starts the row in a process of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = context.Process(target=work, args=(self.settings, self.folder / "log.txt"), name=self.name)
        self.process.start()

    @property
    def failed(self) -> bool:
        """Whether the row's process ended, and not well."""
        return self.process is not None and bool(self.process.exitcode)

    @property
    def done(self) -> int:
        """Updates that the run's status file reports."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.folder / "status.json").read_text())["update"])
        return 0


def work(settings: Config, log: Path) -> None:
    """Trains one row, with its output in `log`."""
    import torch

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("a", encoding="utf-8", buffering=1))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        try:
            train.run(settings)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def rows_at_a_time() -> int:
    """Rows that a machine trains at a time: one for each core, but on a GPU, whose memory a row may need, one alone."""
    import torch

    return 1 if torch.accelerator.is_available() else os.cpu_count() or 1


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Base models, by which all are normalised, then those with most work."""
    return sorted(jobs, key=lambda job: (job.planned > 0, -job.work))


def run(
    jobs: Sequence[Job], at_once: int, ended: Callable[[Job], object] | None = None, until: float = math.inf
) -> None:
    """Runs the jobs in their order, `at_once` at a time.

    Args:
        ended: called with each job whose process has ended, also with one that failed.
        until: of `time.monotonic`, after which none is begun.
    """
    waiting, running = list(jobs), list[Job]()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.running"])
    bar = tqdm(total=sum(job.planned for job in jobs), unit="update", mininterval=1, dynamic_ncols=True)
    while running or (waiting and time.monotonic() < until):
        while waiting and len(running) < at_once and time.monotonic() < until:
            running.append(waiting.pop(0))
            running[-1].start(context)
        time.sleep(POLL)
        for job in [job for job in running if job.process and job.process.exitcode is not None]:
            running.remove(job)
            if ended:
                ended(job)
            tqdm.write(f"{job.name}: {f'FAILED, see {job.folder}/log.txt' if job.failed else 'done'}")
        bar.n = sum(job.done for job in jobs)
        at_work = ", ".join(f"{job.name} {job.done}/{job.planned}" for job in running)
        bar.set_postfix_str(at_work, refresh=sys.stderr.isatty())  # in a log, only what is done
    bar.close()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("overrides", nargs="*", help="as for bench.train: scale=tiny seed=0 ...")
    parser.add_argument("--jobs", type=int, help="rows at a time (default: one a core, on a GPU one)")
    parser.add_argument("--rows", default="", metavar="A,B", help="of the suite these alone")
    parser.add_argument("--list", action="store_true", help="print the rows, one a line, and train nothing")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse(arguments)
    began = time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        rows = rows_of(args.suite, args.rows)
        settings = [configure(row, args.overrides) for row in rows]
        if args.list:
            check(settings)
            print("\n".join(rows))
            return
        jobs = [Job(each) for each in settings]
        run(in_order(jobs), args.jobs or rows_at_a_time())
    except (ConfigError, RowError, LedgerError, OSError) as error:
        sys.exit(f"bench.suite: {' '.join(str(error).split())}")
    failed = [job for job in jobs if job.failed]
    print(f"{args.suite}: {len(jobs) - len(failed)} of {len(jobs)} rows in {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


def check(settings: Sequence[Config]) -> None:
    """Whether each row has a budget that fits and addresses that may be written down.

    Raises:
        ConfigError, LedgerError: one has not.
    """
    for each in settings:
        config.planned_updates(each, find_row(each.row))
        addresses.check(each.tracking, each.judges)


if __name__ == "__main__":
    main()
