"""Ranks as torchrun would start them, forked from a server that imports the libraries once.

Not from the tests' process: once torch has had threads there, a fork of it may fail in the middle of anything.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds, after which processes count as waiting for each other for ever
# With the golds that a run asks at its first evaluation: SciPy's half second would be every process's own.
PRELOADED = [
    "bench.running",
    "bench.judge",
    "bench.rewards.pickscore",
    "bench.rewards.text",
    "gold_metrics.correctness",
]


def fork(count: int, work: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Exit codes of `count` ranks that each do `work(*arguments)`; None is one that was still at it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(probe.getsockname()[1])}
    own = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {} for rank in range(count)]
    ranks = [start(each, work, *arguments) for each in own]
    for process in ranks:
        process.join(PATIENCE)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    return codes


def start(environment: dict[str, str], work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that does `work(*arguments)`."""
    process = server().Process(target=_rank, args=(environment, work, *arguments))
    process.start()
    return process


def server() -> ForkServerContext:
    """Where processes come from that need not import what a run does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _rank(environment: dict[str, str], work: Callable[..., None], *arguments: Any) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)


def command(folder: Path, *arguments: str) -> None:
    """`python -m bench.train`, its errors in `folder/errors-RANK.txt`."""
    from bench import train

    sys.argv = ["bench.train", *arguments]
    with (
        (folder / f"errors-{os.environ.get('RANK', 0)}.txt").open("w") as errors,
        contextlib.redirect_stderr(errors),
    ):
        train.command()
