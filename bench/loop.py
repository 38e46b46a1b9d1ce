"""The way of a run: sample, reward, advantage, update, log; a checkpoint, an evaluation where one is due, and on.

The same for every method: a method is a row of `baselines`. Left out: learning-rate schedules, inner epochs and mixed
advantages, which none of the four papers uses.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench import checkpoint, epoch, ledger, provenance, room, sample, scores, seals, trained
from bench.preemption import Preempted
from bench.record import METRIC_FILES
from bench.session import Session
from gold_metrics import image_set

PACE, PACE_OF_LOGS = 2, 60  # seconds between two states of the progress bar: on a screen, in a file


def train(session: Session) -> None:
    """Runs or resumes a run to its end.

    An evaluation comes after the checkpoint of its update, so that one that is cut short costs no training.

    Raises:
        Preempted: it was asked to stop; what it had finished is saved.
    """
    state, record = session.state, session.record
    evaluated = resume(session)
    record.status("running", state.update, session.updates)
    bar = tqdm(
        total=session.updates,
        initial=state.update,
        desc=session.row.name,
        unit="update",
        mininterval=PACE if sys.stderr.isatty() else PACE_OF_LOGS,
        disable=not session.ranks.first,
    )
    try:
        while True:
            if due(session) and not evaluated:
                save(session)
                evaluate(session)
            if not (session.recipe and session.proxy) or state.update >= session.updates:
                break
            session.stop.check(session.ranks)
            with timed(session, "seconds") as line:
                epoch.run(session, session.recipe, session.proxy)
                line["epoch"] = state.epoch
            evaluated = False
            if state.epoch % session.config.checkpoint_every == 0:
                save(session)
            record.status("running", state.update, session.updates)
            bar.update(state.update - bar.n)
    except Preempted:
        save(session)
        raise
    finally:
        bar.close()
    finish(session)


def resume(session: Session) -> bool:
    """Puts a run back to where its newest checkpoint left it; returns whether it was evaluated there."""
    manifest = checkpoint.resume(checkpoints(session), session.state, session.ranks.decide)
    update = session.state.update
    if manifest.get("evaluated") and not session.ranks.decide(lambda: intact(session.record.folder, update)):
        manifest = session.ranks.decide(lambda: checkpoint.mark_unevaluated(checkpoints(session), update))
    session.record.cut({name: written["bytes"] for name, written in manifest.get("record", {}).items()})
    if session.record.writes:
        scores.sweep(session.record.folder)
        seals.forget(session.record.folder, lambda name: _again(name, update, manifest))
    return bool(manifest.get("evaluated"))


def intact(folder: Path, update: int) -> bool:
    """Whether images and scores of an evaluation are what was written; its weights are still there to repeat it."""
    made = f"update-{update:06d}"
    faults = [name for name in seals.damaged(folder) if made in name]
    try:
        faults += [name for path in folder.glob(f"images/**/{made}") for name in image_set.changed(path)]
    except image_set.ImageSetError as error:
        faults.append(str(error))
    if faults:
        print(
            f"bench.train: the evaluation at update {update} is made again, for {faults[0]} is damaged", file=sys.stderr
        )
    return not faults


def _again(name: str, update: int, manifest: dict[str, Any]) -> bool:
    """Whether a sealed file will be written again: all but the request and the evaluations that are in the record."""
    found = re.search(r"update-(\d+)", name)
    evaluated = update if manifest.get("evaluated") else update - 1
    return name != "run.json" and (found is None or int(found[1]) > evaluated)


def checkpoints(session: Session) -> Path:
    """Where the run's checkpoints are."""
    return session.record.folder / "checkpoints"


def due(session: Session) -> bool:
    """Whether the run is evaluated where it is now: at its beginning, at its end, and every so many updates."""
    update = session.state.update
    return update == session.updates or update % session.config.evaluation.every == 0


def save(session: Session) -> None:
    """A checkpoint, unless there is one of this update; none of a base model, which learns nothing.

    The rank that writes makes it; the others hand it their shards and wait for it.
    """
    if session.updates and session.state.saved != session.state.update:
        with room.for_checkpoint(session):
            checkpoint.save(checkpoints(session), session.state, session.ranks.first)
        session.ranks.wait()


def evaluate(session: Session) -> None:
    """An evaluation point with the averaged weights: images, scores, their means, and the mirror brought up to date."""
    update, record = session.state.update, session.record
    with room.for_evaluation(session):
        with timed(session, "evaluation_seconds") as line:
            line["update"] = update
            found = sample.evaluate(session)
        record.append("metrics", {"update": update, "epoch": session.state.epoch} | found)
        if record.writes:
            made = [*record.folder.rglob(f"scores/**/update-{update:06d}.parquet")]
            made += record.folder.rglob(f"images/**/update-{update:06d}/{image_set.MANIFEST}")
            seals.seal(record.folder, *made)
            if session.state.saved == update:
                checkpoint.mark_evaluated(checkpoints(session), update)
    mirror(session)
    session.ranks.wait()


@contextlib.contextmanager
def timed(session: Session, key: str) -> Iterator[dict[str, Any]]:
    """Notes in `times.jsonl` how long its body took, and what the body puts into the line."""
    began, line = time.perf_counter(), dict[str, Any]()
    yield line
    took = {key: time.perf_counter() - began, "ranks": session.ranks.count}
    session.record.append("times", line | took | provenance.host())


def finish(session: Session) -> None:
    """Leaves what was trained, seals the record and marks the run as finished."""
    record, state = session.record, session.state
    if session.updates:
        with state.ema.swapped_in():
            trained.save(session.policy, record.folder, session.ranks.first)
    if record.writes:
        paths = [record.folder / name for name in METRIC_FILES]
        paths += [*record.folder.glob("lora/*"), *record.folder.glob("transformer/*")]
        seals.seal(record.folder, *(path for path in paths if path.exists()))
    record.status("finished", state.update, session.updates)


def mirror(session: Session) -> None:
    """Shows the run as it is now in MLflow, a copy: where that fails the run goes on, and the next call catches up."""
    if not (session.config.tracking and session.ranks.first):
        return
    try:
        ledger.mirror(ledger.read(session.record.folder), session.config.tracking)
    except Exception as error:
        print(f"bench.train: MLflow was not brought up to date: {error}", file=sys.stderr)
