"""What the ranks of a run have before and after its first update."""

from __future__ import annotations

from pathlib import Path

import torch
from bench_runs import settings
from forked_ranks import fork
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import checkpoint, epoch, gradient, update
from bench.config import Config
from bench.ranks import Ranks
from bench.rollout import Samples
from bench.session import Session, prepare


def seen_by(count: int, row: str, folder: Path, *overrides: str) -> dict[str, Tensor]:
    """Rollout, gradient and trained weights of a row's first epoch on `count` ranks; its checkpoint is in `folder`."""
    folder.mkdir()
    asked = settings(row, folder, *overrides)  # composed once, and not by every rank
    assert fork(count, _rank, asked, folder) == [0] * count
    return load_file(folder / "seen.safetensors")


def _rank(asked: Config, folder: Path) -> None:
    session = prepare(asked, Ranks())
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    seen = {"ranks": torch.tensor(session.ranks.count), "gradient": _gradient(session, samples)}
    epoch.step(session, session.recipe, samples, torch.arange(len(samples.members)), session.policy.times(4), 0)
    seen["trained"] = torch.cat([gradient.whole(p).detach().flatten() for p in session.state.parameters])
    for name in ("state", "next", "mean", "final"):
        seen[name] = _together(session, getattr(samples.rollout, name))
    seen["rewards"] = _together(session, samples.rewards)
    checkpoint.save(folder / "checkpoints", session.state, session.ranks.first)
    _restored(session, folder)
    if session.ranks.first:
        save_file(seen, folder / "seen.safetensors")


def _together(session: Session, part: Tensor) -> Tensor:
    return torch.cat(session.ranks.gather([part])).contiguous()


def _gradient(session: Session, samples: Samples) -> Tensor:
    assert session.recipe
    rows, times = torch.arange(len(samples.members)), session.policy.times(4)
    micro_batch = session.config.optim.micro_batch
    update.gradients(session.policy, session.recipe, samples, rows, times, micro_batch, session.ranks)
    return torch.cat([gradient.whole(p.grad).flatten() for p in session.state.parameters if p.grad is not None])


def _restored(session: Session, folder: Path) -> None:
    """The checkpoint, put back over changed weights, gives the state that was saved."""
    session.ranks.wait()
    kept = {name: value.clone() for name, value in session.state.tensors().items()}
    with torch.no_grad():
        for parameter in session.state.parameters:
            parameter.zero_()
    assert checkpoint.resume(folder / "checkpoints", session.state, session.ranks.decide)
    for name, value in session.state.tensors().items():
        assert torch.equal(value, kept[name]), name
