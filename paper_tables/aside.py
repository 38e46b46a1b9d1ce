"""Work that another process does meanwhile: drawing takes as long as everything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from multiprocessing import get_context
from typing import Any


class Here(Executor):
    """Does it at once and in this process."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """What `work` gives or raises, as a future that is done."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except Exception as error:
            done.set_exception(error)
        return done


Beside = Callable[[str], AbstractContextManager[Executor]]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def here(module: str) -> Iterator[Executor]:
    """This process."""
    yield Here()


@contextmanager
def aside(module: str) -> Iterator[Executor]:
    """Another process, which begins with importing `module`; this one where there is a single core."""
    if cores() < 2:
        yield Here()
        return
    # Started anew and not forked: what has been imported by now may have threads.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_ready, module)
        yield pool


def _ready(module: str) -> None:
    import_module(module)
