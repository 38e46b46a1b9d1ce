"""Runs whose processes are killed at random moments, in as many attempts as it takes, and what is left in the end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from left_behind import PARTS, in_the_making, newest, phase_of

from bench import config
from bench.config import Config
from bench.experiments import find_row

TRAIN, JUDGE = "train", "judge"
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}  # audit events
PATIENCE = 120.0  # seconds, after which an attempt counts as hanging
REACH = 0.6  # of an undisturbed attempt, within which a blow falls: it leaves something to go on with, and from


@dataclass(frozen=True)
class Blow:
    """A SIGKILL, `seconds` after an attempt began, or after its `write`-th touch of a `part` of the run's folder."""

    seconds: float
    part: str = ""
    write: int = 0


@dataclass(frozen=True)
class Attempt:
    """What became of a process: `code` is its exit code, `phase` what it was about when it was killed."""

    kind: str
    blow: Blow | None
    code: int
    seconds: float
    phase: str
    resumed: int | None


def work(kind: str, asked: Config, folder: Path, run: Path, blow: Blow | None) -> None:
    """One attempt, in a process of its own: trains a row, or judges it later. Its output goes to `folder/log.txt`."""
    import torch

    from bench import judge, train

    torch.set_num_threads(1)
    log = (folder / "log.txt").open("a", buffering=1)
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        touched = watch(run, blow)
        if kind == TRAIN:
            train.run(asked)
        elif code := judge.main([asked.runs, "--row", asked.row]):
            sys.exit(code)
    (folder / f"{kind}.json").write_text(json.dumps(touched))


def watch(run: Path, blow: Blow | None) -> Counter[str]:
    """Counts what this process writes to each part of a run's folder, and kills it when the blow says so."""
    touched = Counter[str]()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in WRITES and (part := part_of(event, args, f"{run}/")):
            touched[part] += 1
            if blow and (part, touched[part]) == (blow.part, blow.write):
                kill(blow.seconds)

    sys.addaudithook(hook)
    return touched


def kill(seconds: float) -> None:
    """Ends this process by SIGKILL, at once or after some seconds, in which it goes on."""
    if not seconds:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def part_of(event: str, args: tuple[Any, ...], inside: str) -> str:
    """Which part of the run's folder `inside` an audit event is to change; empty if none."""
    path = str(args[0])
    if event == "open":
        mode, flags = args[1:]
        changes = any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
    else:
        changes = True
    if not (changes and path.startswith(inside)):
        return ""
    part = path.removeprefix(inside).split("/")[0]
    return part if part in PARTS else "record"


@dataclass
class Life:
    """One run of a row, trained and then judged in as many attempts as it takes, under `folder`.

    Attributes:
        usual: of an undisturbed life: seconds and writes to each part of its folder, by kind of attempt.
        generator: of blows, of which `most` may fall.
    """

    asked: Config
    folder: Path
    usual: dict[str, tuple[float, dict[str, int]]] = field(default_factory=dict)
    generator: random.Random = field(default_factory=random.Random)
    most: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = config.folder_of(self.asked, find_row(self.asked.row))
        self.kind, self.began, self.blow = TRAIN, 0.0, None  # type: tuple[str, float, Blow | None]
        self.process: BaseProcess | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def kills(self) -> int:
        """How many blows fell."""
        return sum(attempt.code != 0 for attempt in self.attempts)

    def start(self, context: ForkServerContext, left: int) -> None:
        """Begins an attempt, which a blow awaits if some are `left` for all lives and for this one."""
        self.blow = self._blow() if left > 0 and self.kills < self.most else None
        self.found, self.resumed = in_the_making(self.run), newest(self.run)
        self.process = context.Process(target=work, args=(self.kind, self.asked, self.folder, self.run, self.blow))
        self.began = time.time()
        self.process.start()

    def _blow(self) -> Blow:
        seconds, touched = self.usual[self.kind]
        if self.generator.random() < 0.5:
            return Blow(self.generator.uniform(0, REACH * seconds))
        part = self.generator.choice(sorted(touched))
        write = self.generator.randint(1, max(1, int(REACH * touched[part])))
        return Blow(0.0 if self.generator.random() < 0.5 else self.generator.uniform(0, 0.03), part, write)

    def poll(self) -> Attempt | None:
        """Lets a blow fall when its time has come; the attempt, once it ended."""
        assert self.process
        passed = time.time() - self.began
        if self.blow and not self.blow.part and passed >= self.blow.seconds:
            self.process.kill()
        if passed > PATIENCE:
            self.process.kill()
        if self.process.exitcode is None:
            return None
        phase = phase_of(self.run, self.kind, self.began, self.found)
        made = Attempt(self.kind, self.blow, self.process.exitcode, passed, phase, self.resumed)
        self.attempts.append(made)
        if made.code == 0:
            self.kind = JUDGE if self.kind == TRAIN else ""
        self.process = None
        return made

    def usually(self) -> dict[str, tuple[float, dict[str, int]]]:
        """Seconds and writes of an undisturbed life, by kind."""
        touched = {each.kind: json.loads((self.folder / f"{each.kind}.json").read_text()) for each in self.attempts}
        return {each.kind: (each.seconds, touched[each.kind]) for each in self.attempts}


class FaultError(RuntimeError):
    """An attempt ended by itself, and not well."""


def live(
    lives: Iterable[Life], context: ForkServerContext, kills: int, at_once: int, tell: Callable[[Life, Attempt], object]
) -> None:
    """Leads all lives to their end, `at_once` at a time, with so many kills at most; takes a life only when needed.

    Raises:
        FaultError: an attempt ended neither well nor by a blow, or hangs.
    """
    waiting, running, left = iter(lives), list[Life](), kills
    try:
        while True:
            while len(running) < at_once and (life := next(waiting, None)):
                running.append(life)
                life.start(context, left)
            if not running:
                return
            time.sleep(0.002)
            for life in [*running]:
                if (attempt := life.poll()) is None:
                    continue
                left -= check(life, attempt)
                tell(life, attempt)
                if life.kind:
                    life.start(context, left)
                else:
                    running.remove(life)
    finally:
        for life in running:
            if life.process:
                life.process.kill()


def check(life: Life, attempt: Attempt) -> int:
    """How many blows fell in an attempt, 0 or 1.

    Raises:
        FaultError: it ended otherwise.
    """
    fell = attempt.blow is not None and attempt.code == -signal.SIGKILL and attempt.seconds < PATIENCE
    if attempt.code == 0 or fell:
        return int(fell)
    said = (life.folder / "log.txt").read_text().splitlines()[-12:]
    raise FaultError("\n".join([f"{life.asked.row}, {attempt.kind} attempt: exit code {attempt.code}", *said]))
