"""What the ranks of a run have before and after its first update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from bench.update import StepRecord


def seen_by(count: int, row: str, folder: Path, *overrides: str, learns: bool = True) -> dict[str, Tensor]:
    """Rollout, gradient and trained weights of a row's first epoch on `count` ranks; its checkpoint is in `folder`.

    Without `learns` the rollout alone.
    """
    folder.mkdir()
    asked = settings(row, folder, *overrides)  # composed once, and not by every rank
    assert fork(count, _rank, asked, folder, learns) == [0] * count
    return load_file(folder / "seen.safetensors")


def _rank(asked: Config, folder: Path, learns: bool) -> None:
    session = prepare(asked, Ranks())
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    seen = {"ranks": torch.tensor(session.ranks.count)}
    for name in ("state", "next", "mean", "final"):
        seen[name] = _together(session, getattr(samples.rollout, name))
    seen["rewards"] = _together(session, samples.rewards)
    if learns:
        seen["gradient"] = _gradient_of_step(session, samples)
        seen["trained"] = torch.cat([gradient.whole(p).detach().flatten() for p in session.state.parameters])
        checkpoint.save(folder / "checkpoints", session.state, session.ranks.first)
        _restored(session, folder)
    if session.ranks.first:
        save_file(seen, folder / "seen.safetensors")


def _together(session: Session, part: Tensor) -> Tensor:
    return torch.cat(session.ranks.gather([part])).contiguous()


def _gradient_of_step(session: Session, samples: Samples) -> Tensor:
    """The gradient of an optimizer step, before it is clipped."""
    assert session.recipe
    seen, gradients = list[Tensor](), update.gradients

    def watched(*at: Any, **options: Any) -> list[StepRecord]:
        records = gradients(*at, **options)
        given = [p.grad for p in session.state.parameters if p.grad is not None]
        seen.append(torch.cat([gradient.whole(each).flatten() for each in given]))
        return records

    update.gradients = watched  # this process does nothing else
    epoch.step(session, session.recipe, samples, torch.arange(len(samples.members)), session.policy.times(4), 0)
    return seen[0]


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
