"""What the ranks of a run have before and after its first update: run by torchrun or alone, it writes a file."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from bench_runs import settings
from safetensors.torch import save_file

from bench import checkpoint, gradient, train, update
from bench.ranks import Ranks
from bench.session import Session, prepare


def main(row: str, folder: Path, out: Path, *overrides: str) -> None:
    """Samples the first epoch, updates once, and saves what was seen of it by all ranks together."""
    torch.set_num_threads(1)
    session = prepare(settings(row, folder, *overrides), Ranks())
    assert session.recipe and session.proxy
    samples = train.sample_epoch(session, session.recipe, session.proxy)
    seen = {
        "latents": together(session, samples.rollout.next),
        "means": together(session, samples.rollout.mean),
        "finals": together(session, samples.rollout.final),
        "rewards": together(session, samples.rewards),
        "images": together(session, torch.from_numpy(samples.images)),
    }
    for n, p in zip(session.state.names, session.state.parameters):
        pass
    seen["ranks"] = torch.tensor(session.ranks.count)
    seen["gradient"] = gradient_of(session, samples)
    train.step(session, session.recipe, samples, torch.arange(len(samples.members)), session.policy.times(4), 0)
    seen["trained"] = torch.cat([gradient.whole(p).detach().flatten() for p in session.state.parameters])
    checkpoint.save(out.with_suffix(""), session.state, session.ranks.first)
    if session.ranks.first:
        save_file(seen, out)


def together(session: Session, part: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in their order."""
    return torch.cat(session.ranks.gather([part])).contiguous()


def gradient_of(session: Session, samples: train.Samples) -> torch.Tensor:
    """The whole gradient of the first update, flat."""
    assert session.recipe
    rows, times = torch.arange(len(samples.members)), session.policy.times(4)
    micro_batch = session.config.optim.micro_batch
    update.gradients(session.policy, session.recipe, samples, rows, times, micro_batch, session.ranks)
    parts = [gradient.whole(p.grad).flatten() for p in session.state.parameters if p.grad is not None]
    return torch.cat(parts)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
