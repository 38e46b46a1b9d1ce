"""One run of a row: claimed, begun or gone on with, trained, mirrored. `bench.train` is its command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench import addresses, checkpoint, config, ledger, prompts, provenance, room, seals, space, update
from bench.config import Config
from bench.experiments import RowError, find_row
from bench.lock import RunLock
from bench.loop import mirror, train
from bench.machine import check_memory, set_precision
from bench.policy import PolicyError
from bench.preemption import RETRY, Preempted, Stop
from bench.ranks import Ranks
from bench.record import BusyError, LedgerError, Record, clear, forced, make_folder
from bench.refusals import leave
from bench.rewarding import RewardError
from bench.session import Session, prepare
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.weights import WeightsError

KNOWN_ERRORS = (
    RowError,
    config.ConfigError,
    PolicyError,
    prompts.PromptError,
    LedgerError,
    checkpoint.CheckpointError,
    update.GateError,
    RewardError,
    WeightsError,
    JudgeServerError,
    OSError,
)


def run(settings: Config, stop: Stop | None = None) -> Path:
    """Trains one row unless it is finished; returns its folder. Every rank of a run calls it.

    Raises:
        Preempted: `stop` was asked for; the same call goes on.
        LedgerError: another process works on the run, or its record is damaged.
        SpaceError: the disk has too little room, or is full; the same call goes on when there is room.
        RowError, ConfigError, PromptError, PolicyError, GateError, RewardError, CheckpointError, OSError: as they say.
    """
    row = find_row(settings.row)
    addresses.check(settings.tracking, settings.judges)
    planned = config.planned_updates(settings, row)  # what cannot be planned leaves no folder
    folder, ranks = make_folder(config.folder_of(settings, row)), Ranks()
    with space.explained(folder, "the run"), contextlib.ExitStack() as held:
        earlier = ranks.decide(lambda: claim(folder, settings, held))
        if earlier and earlier.finished:
            if ranks.first:
                print(f"{row.name} seed {settings.seed} is finished: {folder} (FORCE=1 repeats it)")
            return folder
        with noted(folder, planned, ranks.first and not earlier):
            set_precision(settings.tf32)
            check_memory(settings, ranks.device, ranks.count)
            session = prepare(settings, ranks, stop or Stop())
            info = provenance.describe(session)
        if earlier:  # the first rank alone has all of the pipeline's files
            ranks.decide(lambda: provenance.check_same_inputs(earlier.info, info["hashes"], folder))
        try:
            with room.for_the_rest(session):
                if not earlier:
                    begin(session, info)
                train(session)
            mirror(session)
            if ranks.first:
                print(f"{row.name} seed {settings.seed} has its {planned} updates: {folder}")
            ranks.wait()  # launchers kill the others once one has left
        except BaseException as error:
            _give_up(session, error)
            if isinstance(error, Preempted):
                ranks.wait()
            raise
    return folder


def claim(folder: Path, settings: Config, held: contextlib.ExitStack) -> ledger.Run | None:
    """Locks the run's folder for as long as `held` is open; returns what an earlier process left of the run.

    Raises:
        LedgerError: another process works on it, or it was made with other settings, prompts or weights.
    """
    held.enter_context(RunLock(folder))
    if forced(settings.force, folder):
        clear(folder)
    if not (folder / "run.json").exists():
        return None
    whole = check_seals(folder)
    earlier = ledger.read(folder)
    if earlier.finished and not whole:
        earlier = replace(earlier, status=earlier.status | {"state": "running"})  # goes on from its last checkpoint
    provenance.check_same(earlier.info, settings, folder)
    provenance.check_same_inputs(earlier.info, provenance.inputs(settings, find_row(settings.row)), folder)
    return earlier


@contextlib.contextmanager
def noted(folder: Path, planned: int, writes: bool) -> Iterator[None]:
    """Leaves in the status of a run that has not begun why it could not."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(Exception):
            Record(folder, writes).status("failed", 0, planned, f"{type(error).__name__}: {error}")
        raise


def begin(session: Session, info: dict[str, Any]) -> None:
    """What was asked, and with what it is made: written once, also where a later attempt goes on with other code."""
    session.record.begin(info)
    if session.record.writes:
        seals.seal(session.record.folder, session.record.folder / "run.json")


def check_seals(folder: Path) -> bool:
    """Whether what was trained is what an earlier process wrote; the last checkpoint gives it again.

    Training needs no evaluation either: both are reported.

    Raises:
        LedgerError: anything else is damaged.
    """
    faults, trained = seals.damaged(folder), ("lora/", "transformer/")
    reported = {name for name in faults if name.startswith(("scores/", "images/", *trained))}
    for name in reported:
        print(f"bench.train: {folder / name} {faults[name]}", file=sys.stderr)
    if others := [f"{folder / name} {fault}" for name, fault in faults.items() if name not in reported]:
        raise LedgerError(f"{'; '.join(others)}; run the row again with FORCE=1, or bring the files back")
    return not any(name.startswith(trained) for name in faults)


def _give_up(session: Session, error: BaseException) -> None:
    preempted = isinstance(error, KeyboardInterrupt | Preempted)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    with contextlib.suppress(OSError):  # a full disk has no room for it, and the error at hand is the one to tell
        session.record.status("preempted" if preempted else "failed", session.state.update, session.updates, said)
    mirror(session)


def work(settings: Config) -> None:
    """`run` as a process of its own: it ends with 75 preempted and saved, 130 interrupted, `code_of` an error."""
    torch.set_num_threads(1)
    stop = Stop()
    stop.listen()
    try:
        run(settings, stop)
    except KNOWN_ERRORS as error:
        leave("bench.train", error, code_of(error))
    except Preempted as preempted:
        leave("bench.train", f"stopped by {preempted}, saved; the same command goes on", RETRY)
    except KeyboardInterrupt:
        leave("bench.train", "interrupted; the same command goes on from the last checkpoint", 130)


def code_of(error: Exception) -> int:
    """75 where another process has the run, 1 for what may pass, as a server that is away, 2 for what will not."""
    if isinstance(error, BusyError):
        return RETRY
    passing = isinstance(error, OSError | RewardError | JudgeServerError) and not isinstance(error, space.SpaceError)
    return 1 if passing else 2
