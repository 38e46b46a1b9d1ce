"""`python -m bench.train row=NAME`: one row of a table, from prompts to scores.

The loop is the same for every method: sample, reward, advantage, update, log; a method is a row of `baselines`.
Left out: learning-rate schedules, inner epochs and mixed advantages, which none of the four papers uses.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path

import hydra
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from baselines.recipe import Recipe
from bench import checkpoint, config, diagnostics, gradient, ledger, noise, prompts, provenance, rollout, sample, update
from bench.config import Config
from bench.experiments import ROWS, RowError, find_row
from bench.members import members_of
from bench.noise import Coordinates
from bench.policy import PolicyError
from bench.ranks import Ranks
from bench.record import LedgerError, clear, make_folder
from bench.rewarding import RewardError, Rewarding
from bench.rollout import Samples
from bench.session import Session, prepare
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.scorer import Scorer
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
    resumed = checkpoint.resume(checkpoints, state)
    session.record.cut(state.update if resumed else -1)
    if not resumed:
        evaluate(session)
    bar = tqdm(total=session.updates, initial=state.update, desc=session.row.name, unit="update", mininterval=2)
    while session.recipe and session.proxy and state.update < session.updates:
        began = time.perf_counter()
        train_epoch(session, session.recipe, session.proxy)
        session.record.append(
            "times", {"epoch": state.epoch, "seconds": time.perf_counter() - began} | provenance.host()
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
            session.policy.save(session.record.folder, session.ranks.first)
    session.record.status("finished", state.update, session.updates)


def save(session: Session, folder: Path) -> None:
    """A checkpoint by the rank that writes; the others hand it their shards and wait for it."""
    checkpoint.save(folder, session.state, session.ranks.first)
    session.ranks.wait()


def train_epoch(session: Session, recipe: Recipe, proxy: Scorer) -> None:
    """One rollout and its optimiser updates."""
    samples = sample_epoch(session, recipe, proxy)
    times = session.policy.times(session.config.sampling.steps)
    for inner, positions in enumerate(parts(session)):
        rows = [i for i, member in enumerate(samples.members) if member.position in positions]
        step(session, recipe, samples, torch.tensor(rows, dtype=torch.long), times, inner)
    session.state.epoch += 1


def sample_epoch(session: Session, recipe: Recipe, proxy: Scorer) -> Samples:
    """Rolls out this rank's members of the epoch, rewards them and sets their advantages within all groups."""
    sampling, seed, epoch = session.config.sampling, session.config.seed, session.state.epoch
    chosen = prompts.of_epoch(session.train_prompts, sampling.groups, seed, epoch)
    with torch.no_grad():
        conditioning = session.policy.encode([prompt.text for prompt in chosen])
    members = session.ranks.share(members_of(chosen, sampling.group_size), recipe.plan.branches)
    times, size = session.policy.times(sampling.steps), sampling.micro_batch
    with Rewarding(proxy) as rewarding:
        samples = rollout.sample(session.policy, recipe, members, conditioning, times, seed, epoch, size, rewarding.add)
        samples.rewards = session.ranks.attempt(rewarding.rewards)
    everyones = torch.stack(session.ranks.gather(list(samples.rewards)))
    rollout.set_advantages(samples, everyones, recipe, sampling.groups)
    session.record.append(
        "metrics",
        {
            "update": session.state.update + 1,  # the update that these rewards lead to
            "epoch": epoch,
            "proxy/reward": everyones.mean().item(),
            "proxy/reward_std": everyones.std().item(),
        },
    )
    return samples


def parts(session: Session) -> list[set[int]]:
    """The members of an epoch, by position, in random parts: one for each optimiser update."""
    sampling = session.config.sampling
    at = Coordinates(session.config.seed, "subset", session.state.epoch)
    order = torch.from_numpy(noise.generator(at).permutation(sampling.groups * sampling.group_size))
    return [set(part.tolist()) for part in order.tensor_split(session.config.optim.updates_per_rollout)]


def step(session: Session, recipe: Recipe, samples: Samples, rows: Tensor, times: Tensor, inner: int) -> None:
    """One optimiser update and its lines in the record."""
    state, optim = session.state, session.config.optim
    records = update.gradients(
        session.policy,
        recipe,
        samples,
        rows,
        times,
        optim.micro_batch,
        session.ranks,
        stacked_steps=optim.stacked_steps,
        penalty=update.Penalty(optim.kl_beta, optim.kl_unit) if optim.kl_beta else None,
    )
    if state.update == 0:
        update.check_on_policy(records, recipe)
    norm = gradient.clip(state.parameters, optim.clip_norm)
    if not math.isfinite(norm):
        raise update.GateError(f"the gradient of update {state.update + 1} is not finite; the last checkpoint is good")
    state.optimizer.step()
    state.update += 1
    state.ema.update(state.update)
    at = {"update": state.update, "epoch": state.epoch}
    lines = diagnostics.describe(records, recipe, times)
    session.record.append("diagnostics", at | {"inner": inner} | lines)
    session.record.append("metrics", at | {"grad/norm": norm} | diagnostics.summary(records, lines))


def evaluate(session: Session) -> None:
    """An evaluation point with the averaged weights: images, scores, their means, and the mirror brought up to date."""
    state, settings = session.state, session.config
    if session.ranks.first:
        with state.ema.swapped_in():
            found = sample.evaluate(
                session.policy,
                session.eval_prompts,
                settings.seed,
                settings.evaluation,
                session.record.folder,
                state.update,
                session.scorers,
            )
        session.record.append("metrics", {"update": state.update, "epoch": state.epoch} | found)
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
        session = prepare(settings, ranks)
        info = provenance.describe(session)
        if earlier:
            provenance.check_same_inputs(earlier.info, info["hashes"], folder)
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
    if OmegaConf.is_missing(composed, "row"):
        sys.exit(f"bench.train: say which row: row=NAME with NAME one of {', '.join(ROWS)}")
    try:
        run(config.plain(composed))
    except KNOWN_ERRORS as error:
        print(f"bench.train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    config.register()
    main()
