"""One epoch of a run: a rollout, its rewards and advantages, and the optimizer updates on it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.recipe import Recipe
from bench import diagnostics, gradient, noise, prompts, rollout, update
from bench.members import members_of
from bench.noise import Coordinates
from bench.rewarding import Rewarding
from bench.rollout import Samples
from bench.session import Session
from bench.update import StepRecord
from gold_metrics.scorer import Scorer


def run(session: Session, recipe: Recipe, proxy: Scorer) -> None:
    """One rollout and its optimizer updates."""
    samples = sample_epoch(session, recipe, proxy)
    times = session.times()
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
    times, size = session.times(), sampling.micro_batch
    # Judges switch TF32 off while they score, for the whole process.
    with Rewarding(proxy, session.ranks.device, overlap=not session.config.tf32) as rewarding:
        samples = rollout.sample(session.policy, recipe, members, conditioning, times, seed, epoch, size, rewarding.add)
        samples.rewards = session.ranks.attempt(rewarding.rewards)
    session.stop.check(session.ranks)  # nothing is learned or logged yet
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
    """The members of an epoch, by position, in random parts: one for each optimizer update."""
    sampling = session.config.sampling
    at = Coordinates(session.config.seed, "subset", session.state.epoch)
    order = torch.from_numpy(noise.generator(at).permutation(sampling.groups * sampling.group_size))
    return [set(part.tolist()) for part in order.tensor_split(session.config.optim.updates_per_rollout)]


def step(session: Session, recipe: Recipe, samples: Samples, rows: Tensor, times: Tensor, inner: int) -> None:
    """One optimizer update and its lines in the record."""
    state = session.state
    records, norm = _gradient(session, recipe, samples, rows, times)
    if not math.isfinite(norm):
        raise update.GateError(f"the gradient of update {state.update + 1} is not finite; the last checkpoint is good")
    state.optimizer.step()
    state.update += 1
    state.ema.update(state.update)
    at = {"update": state.update, "epoch": state.epoch}
    lines = diagnostics.describe(records, recipe, times)
    session.record.append("diagnostics", at | {"inner": inner} | lines)
    session.record.append("metrics", at | {"grad/norm": norm} | diagnostics.summary(records, lines))


def _gradient(
    session: Session, recipe: Recipe, samples: Samples, rows: Tensor, times: Tensor
) -> tuple[list[StepRecord], float]:
    """The records of one update and the norm of its gradient, which is left clipped in the parameters.

    Where it overflows in float16 it is computed again at half the scale, as often as that helps. The next update
    begins at the full scale, so that the numbers of an update do not depend on those before it.
    """
    optim, policy = session.config.optim, session.policy
    penalty = update.Penalty(optim.kl_beta, optim.kl_unit) if optim.kl_beta else None
    at = (policy, recipe, samples, rows, times, optim.micro_batch, session.ranks)
    full = policy.gradient_scale
    try:
        while True:
            records = update.gradients(*at, stacked_steps=optim.stacked_steps, penalty=penalty)
            if session.state.update == 0:
                update.check_on_policy(records, recipe)
            norm = gradient.clip(session.state.parameters, optim.clip_norm)
            if math.isfinite(norm) or policy.gradient_scale <= 1:
                return records, norm
            policy.gradient_scale /= 2
    finally:
        policy.gradient_scale = full
