"""`python -m bench.train row=NAME`: one row of a table, from prompts to scores.

The loop is the same for every method: sample, reward, advantage, update, log; a method is a row of `baselines`.
Left out: learning-rate schedules, inner epochs and mixed advantages, which none of the four papers uses.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

import hydra
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from bench import checkpoint, config, epoch, ledger, prompts, provenance, sample, trained, update
from bench.config import Config
from bench.experiments import ROWS, RowError, find_row
from bench.machine import check_memory, set_precision
from bench.policy import PolicyError
from bench.ranks import Ranks
from bench.record import LedgerError, clear, make_folder
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


def train(session: Session) -> None:
    """Runs or resumes a run to its end."""
    settings, state = session.config, session.state
    checkpoints = session.record.folder / "checkpoints"
    resumed = checkpoint.resume(checkpoints, state, session.ranks.decide)
    session.record.cut(state.update if resumed else -1)
    if not resumed:
        evaluate(session)
    bar = tqdm(
        total=session.updates,
        initial=state.update,
        desc=session.row.name,
        unit="update",
        mininterval=2,
        disable=not session.ranks.first,
    )
    while session.recipe and session.proxy and state.update < session.updates:
        began = time.perf_counter()
        epoch.run(session, session.recipe, session.proxy)
        session.record.append(
            "times",
            {"epoch": state.epoch, "seconds": time.perf_counter() - began, "ranks": session.ranks.count}
            | provenance.host(),
        )
        session.record.status("running", state.update, session.updates)
        bar.update(state.update - bar.n)
        last = state.update == session.updates
        if last or state.update % settings.evaluation.every == 0:
            evaluate(session)
        if last or state.epoch % settings.checkpoint_every == 0:
            save(session, checkpoints)
    bar.close()
    if session.updates:
        with state.ema.swapped_in():
            trained.save(session.policy, session.record.folder, session.ranks.first)
    session.record.status("finished", state.update, session.updates)


def save(session: Session, folder: Path) -> None:
    """A checkpoint by the rank that writes; the others hand it their shards and wait for it."""
    checkpoint.save(folder, session.state, session.ranks.first)
    session.ranks.wait()


def evaluate(session: Session) -> None:
    """An evaluation point with the averaged weights: images, scores, their means, and the mirror brought up to date."""
    found = sample.evaluate(session)
    session.record.append("metrics", {"update": session.state.update, "epoch": session.state.epoch} | found)
    mirror(session)
    session.ranks.wait()


def mirror(session: Session) -> None:
    """Shows the run as it is now in MLflow, a copy: where that fails the run goes on, and the next call catches up."""
    if not (session.config.tracking and session.ranks.first):
        return
    try:
        ledger.mirror(ledger.read(session.record.folder), session.config.tracking)
    except Exception as error:
        print(f"bench.train: MLflow was not brought up to date: {error}", file=sys.stderr)


def run(settings: Config) -> Path:
    """Trains one row unless it is finished; returns its folder. Every rank of a run calls it.

    Raises:
        LedgerError: another process works on the run, or its record is damaged.
        RowError, ConfigError, PromptError, PolicyError, GateError, RewardError, CheckpointError, OSError: as they say.
    """
    row = find_row(settings.row)
    folder, ranks = make_folder(config.folder_of(settings, row)), Ranks()
    with contextlib.ExitStack() as held:
        earlier = ranks.decide(lambda: claim(folder, settings, held))
        if earlier and earlier.finished:
            print(f"{row.name} seed {settings.seed} is finished: {folder} (FORCE=1 repeats it)")
            return folder
        set_precision(settings.tf32)
        check_memory(settings, ranks.device, ranks.count)
        session = prepare(settings, ranks)
        info = provenance.describe(session)
        if earlier:  # the first rank alone has all of the pipeline's files
            ranks.decide(lambda: provenance.check_same_inputs(earlier.info, info["hashes"], folder))
        try:
            session.record.begin(info)
            train(session)
            mirror(session)
        except BaseException as error:
            _give_up(session, error)
            raise
    return folder


def claim(folder: Path, settings: Config, held: contextlib.ExitStack) -> ledger.Run | None:
    """Locks the run's folder for as long as `held` is open; returns what an earlier process left of the run.

    Raises:
        LedgerError: another process works on it, or it was made with other settings, prompts or weights.
    """
    try:
        held.enter_context(FileLock(folder / ".lock", timeout=0))
    except Timeout as error:
        raise LedgerError(f"another process works on {folder}; wait for it or choose another runs=") from error
    if settings.force:
        clear(folder)
    if not (folder / "run.json").exists():
        return None
    earlier = ledger.read(folder)
    provenance.check_same(earlier.info, settings, folder)
    provenance.check_same_inputs(earlier.info, provenance.inputs(settings, find_row(settings.row)), folder)
    return earlier


def _give_up(session: Session, error: BaseException) -> None:
    state = "preempted" if isinstance(error, KeyboardInterrupt) else "failed"
    session.record.status(state, session.state.update, session.updates, f"{type(error).__name__}: {error}")
    mirror(session)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> None:
    """Command line."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, _interrupt)  # what Slurm and torchrun send
    if OmegaConf.is_missing(composed, "row"):
        sys.exit(f"bench.train: say which row: row=NAME with NAME one of {', '.join(ROWS)}")
    try:
        run(config.plain(composed))
    except KNOWN_ERRORS as error:
        print(f"bench.train: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("bench.train: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    config.register()
    main()
