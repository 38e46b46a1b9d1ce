"""One process at a time on a run, also from several hosts and on file systems where `flock` does nothing.

Whoever works on a run has a claim in its folder, `.lock/N.json`, and touches it as a sign of life; afterwards the claim
is empty. The highest counts. It is superseded by N + 1, a name that one process alone can give to its claim, by a hard
link; and no number comes back, so that of several takers one wins, whatever the moment in which another was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import psutil

from bench.record import BusyError, LedgerError

BEAT = 30.0  # seconds between signs of life; our choice: nothing to a file system
STALE = 600.0  # seconds without one until another host takes over; our choice: twenty beats outlast a server's restart
SAME_START = 10.0  # seconds; our choice: psutil's start times move when the clock is set, pids come back much later
ATTEMPTS = 100  # our choice: each is lost to another process that was quicker


@dataclass(frozen=True)
class Owner:
    """The process that claimed a run.

    Attributes:
        namespace: of its pid; containers of a host number their own processes.
        started: of that process, seconds since the epoch, by psutil.
        job, restarts: Slurm's, of an array the task's own; None outside Slurm.
        since: of the claim, seconds since the epoch.
    """

    host: str
    namespace: int
    pid: int
    started: float
    job: str | None
    restarts: int
    since: float
    beat: float = 0.0  # of its last sign of life, seconds since the epoch

    @property
    def alive(self) -> bool:
        """Whether the process is there; on another host, whether it gave a sign of life of late."""
        return self.alive_at(time.time())

    def alive_at(self, now: float) -> bool:
        """The same by another clock: `now` in seconds since the epoch."""
        if (self.host, self.namespace) == (socket.gethostname(), _namespace()):
            return _runs(self.pid, self.started)
        return now - self.beat < STALE

    def earlier_life(self) -> bool:
        """Whether it was this Slurm job before it was requeued, elsewhere: here its pid tells whether it is there."""
        job, restarts = _slurm()
        here = (self.host, self.namespace) == (socket.gethostname(), _namespace())
        return job is not None and self.job == job and self.restarts < restarts and not here

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}{f' of job {self.job}' if self.job else ''} since {since}"


def owner(folder: Path) -> Owner | None:
    """Who claimed the run in `folder`, dead or alive; None if nobody did."""
    claims = _claims(folder / ".lock")
    return _read(claims[-1]) if claims else None


class RunLock:
    """Holds a run's folder for one process, from `with` to its end, whatever ends it.

    The claim of a process that is gone is taken over: on this host at once; from another host at once by the same Slurm
    job, requeued, and by others `STALE` seconds after its last sign of life. A process that lost its claim, because it
    stood still that long, stops at its next sign of life.

    Raises:
        BusyError: another process works on the run.
    """

    def __init__(self, folder: Path, stop: Callable[[str], None] | None = None) -> None:
        """`stop` is called in a thread when the claim was lost; by default it ends the process with code 2."""
        self.run, self.folder = folder, folder / ".lock"
        self._stop = stop or _leave
        self._released = threading.Event()
        self._path, self._pid = Path(), 0

    def __enter__(self) -> RunLock:
        _make(self.folder)
        candidate = self.folder / f"{uuid4().hex}.partial"
        try:
            candidate.write_text(json.dumps(_this_process()), encoding="utf-8")
            if not any(self._win(candidate) for _ in range(ATTEMPTS)):
                raise BusyError(f"too many processes want to work on {self.run}; start one")
        finally:
            candidate.unlink(missing_ok=True)
        self._pid = os.getpid()
        self._released.clear()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._released.set()
        if os.getpid() == self._pid and self._held():  # not in a fork, and not another's
            # Emptied where it stands: a full disk has no room for another file.
            with contextlib.suppress(FileNotFoundError), self._path.open("r+b") as file:
                file.write(b"null".ljust(self._path.stat().st_size))

    def check(self) -> None:
        """Whether the run is still ours.

        Raises:
            LedgerError: another process took over.
        """
        if not self._held():
            raise LedgerError(
                f"{self.run} was taken over by {owner(self.run) or 'another process, which is gone'}, because this one "
                f"gave no sign of life for {STALE / 60:g} minutes; it stops here and leaves the run to the other"
            )

    def _held(self) -> bool:
        return _claims(self.folder)[-1:] == [self._path]

    def _win(self, candidate: Path) -> bool:
        """Tries to make `candidate` the claim; False if another process was quicker, whose claim is to be judged."""
        found = _claims(self.folder)
        if found:
            self._refuse_the_living(_read(found[-1]), candidate.stat().st_mtime)
        mine = self.folder / f"{_number(found[-1]) + 1 if found else 1:06d}.json"
        if not _publish(candidate, mine):
            return False
        if _claims(self.folder)[-1] != mine:  # what was found is long past
            mine.unlink(missing_ok=True)
            return False
        for past in found[:-1]:  # the last stays: who lists the folder meanwhile shall not miss both
            past.unlink(missing_ok=True)
        self._path = mine
        return True

    def _refuse_the_living(self, found: Owner | None, now: float) -> None:
        """`now` by the clock that stamps the claims: the file system's."""
        if found and found.alive_at(now) and not found.earlier_life():
            raise BusyError(
                f"another process works on {self.run}: {found}, last sign of life {max(now - found.beat, 0):.0f} s "
                f"ago; wait for it or choose another runs=. Should its host be gone, the run is free "
                f"{STALE / 60:g} minutes after that sign"
            )

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            try:
                self.check()
                os.utime(self._path)
            except LedgerError as error:
                self._stop(str(error))
                return
            except OSError:
                continue  # the file system is away for a moment


def _leave(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr, flush=True)
    os._exit(2)  # no last words in a record that is another's


def _make(folder: Path) -> None:
    """The folder of claims, in the place of the file that earlier versions locked."""
    if folder.is_file():
        folder.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _claims(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.json") if path.stem.isdigit()), key=_number)


def _number(claim: Path) -> int:
    return int(claim.stem)


def _read(claim: Path) -> Owner | None:
    """The owner; of a claim that is unreadable, or still being written, all but its age is unknown."""
    try:
        beat = claim.stat().st_mtime
        content = json.loads(claim.read_text(encoding="utf-8"))
        return None if content is None else Owner(**content, beat=beat)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Owner("an unknown host", 0, 0, 0.0, None, 0, beat, beat)


def _publish(candidate: Path, claim: Path) -> bool:
    """Gives `candidate` the name `claim`, unless it is taken."""
    try:
        os.link(candidate, claim)
    except FileExistsError:
        return candidate.stat().st_nlink > 1  # NFS may answer a request that it sent twice: the link is ours
    except OSError:  # a file system without hard links
        try:
            with claim.open("x", encoding="utf-8") as file:
                file.write(candidate.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _this_process() -> dict[str, Any]:
    job, restarts = _slurm()
    started, now = psutil.Process().create_time(), time.time()
    made = asdict(Owner(socket.gethostname(), _namespace(), os.getpid(), started, job, restarts, now))
    return {key: value for key, value in made.items() if key != "beat"}


def _slurm() -> tuple[str | None, int]:
    here = os.environ
    array, restarts = here.get("SLURM_ARRAY_JOB_ID"), here.get("SLURM_RESTART_COUNT", "0")
    job = f"{array}_{here.get('SLURM_ARRAY_TASK_ID', '')}" if array else here.get("SLURM_JOB_ID")
    return job, int(restarts) if restarts.isdigit() else 0


def _namespace() -> int:
    """The number of this process's pid namespace; 0 where the system has none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _runs(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        gone = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return not gone and abs(process.create_time() - started) < SAME_START
    except psutil.NoSuchProcess:
        return False
