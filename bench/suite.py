"""`python -m bench.suite table1`: every row of a table, several at a time, finished ones skipped.

Rows run in processes forked from a server that has imported the libraries once; each writes its output to `log.txt`
in its run folder. On a cluster slurm/ runs the rows instead, one job each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from hydra import compose, initialize_config_module
from tqdm import tqdm

from bench import config
from bench.config import Config
from bench.experiments import TABLE1, TABLE2, Row

SUITES: dict[str, list[Row]] = {"table1": list(TABLE1.values()), "ablation": list(TABLE2.values())}
POLL = 0.5  # seconds


def configure(row: Row, overrides: Sequence[str]) -> Config:
    """The configuration of one row."""
    config.register()
    with initialize_config_module("bench.conf", version_base="1.3"):
        return config.plain(compose("train", [f"row={row.name}", *overrides]))


def _work(settings: Config, log: Path) -> None:
    """A row in a process of its own."""
    with (
        open(log, "a", encoding="utf-8", buffering=1) as out,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        import torch

        from bench import train

        torch.set_num_threads(1)
        train.run(settings)


def _update_of(folder: Path) -> int:
    try:
        return int(json.loads((folder / "status.json").read_text())["update"])
    except (OSError, ValueError, KeyError):
        return 0


def run(rows: Sequence[Row], overrides: Sequence[str], jobs: int) -> list[Row]:
    """Runs the rows, `jobs` at a time; returns those that failed."""
    settings = {row.name: configure(row, overrides) for row in rows}
    planned = {row.name: config.planned_updates(settings[row.name], row) for row in rows}
    waiting = sorted(
        rows, key=lambda row: -planned[row.name]
    )  # the longest first, so that none is left alone at the end
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.train"])
    running: dict[str, tuple[Row, BaseProcess]] = {}
    failed: list[Row] = []
    bar = tqdm(total=sum(planned.values()), unit="update", mininterval=1, dynamic_ncols=True)
    while waiting or running:
        while waiting and len(running) < jobs:
            row = waiting.pop(0)
            running[row.name] = (row, _start(context, row, settings[row.name]))
        time.sleep(POLL)
        for name, (row, process) in list(running.items()):
            if process.exitcode is not None:
                del running[name]
                failed += [row] if process.exitcode else []
                tqdm.write(f"{name}: {'FAILED' if process.exitcode else 'done'}")
        done = {name: _update_of(config.folder_of(settings[row.name], row)) for name, row in ((r.name, r) for r in rows)}
        bar.n = sum(done.values())
        bar.set_postfix_str(", ".join(f"{name} {done[name]}/{planned[name]}" for name in running))
    bar.close()
    return failed


def _start(context: multiprocessing.context.ForkServerContext, row: Row, settings: Config) -> BaseProcess:
    folder = config.folder_of(settings, row)
    folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_work, args=(settings, folder / "log.txt"), name=row.name)
    process.start()
    return process


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("overrides", nargs="*", help="as for bench.train: scale=tiny seed=0 ...")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rows at a time (default: one per core)")
    args = parser.parse_args()
    began = time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        failed = run(SUITES[args.suite], args.overrides, args.jobs)
    except ValueError as error:
        sys.exit(f"bench.suite: {error}")
    for row in failed:
        print(f"{row.name} failed; its output is in {config.folder_of(configure(row, args.overrides), row)}/log.txt")
    print(f"{args.suite}: {len(SUITES[args.suite]) - len(failed)} rows in {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
