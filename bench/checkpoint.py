"""Full-state checkpoints: adapter, average, optimizer, position. Written whole or not at all, and checked by hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench import gradient
from bench.ema import Ema
from bench.record import write_json

KEEP = 2  # checkpoints; the newest, and one to fall back on


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names it and says what to do."""


@dataclass
class State:
    """What training carries from one update to the next, besides the noise, which has no state.

    Attributes:
        names: of the trained parameters, in the order of `parameters`.
        update, epoch: how many of each are done.
    """

    names: list[str]
    parameters: list[Tensor]
    ema: Ema
    optimizer: torch.optim.Optimizer
    update: int = 0
    epoch: int = 0

    def tensors(self, keep: bool = True) -> dict[str, Tensor]:
        """Every tensor of the state by name, whole, contiguous and on the CPU.

        Args:
            keep: False on a rank that only hands over its shards; it gets nothing.
        """
        found = {f"parameter/{n}": p.detach() for n, p in zip(self.names, self.parameters, strict=True)}
        found |= {f"average/{n}": a for n, a in zip(self.names, self.ema.average, strict=True)}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{key}/{name}"] = value
        kept = {}
        for key, value in found.items():
            whole = gradient.whole(value)
            if keep:
                kept[key] = whole.cpu().contiguous()
        return kept

    @torch.no_grad()
    def restore(self, file: Any) -> None:
        """The inverse of `tensors` from an open safetensors file, in place, one tensor in memory at a time."""
        keys = sorted({key.split("/")[1] for key in file.keys() if key.startswith("optimizer/")})  # noqa: SIM118
        for name, parameter, average in zip(self.names, self.parameters, self.ema.average, strict=True):
            parameter.copy_(gradient.like(parameter, file.get_tensor(f"parameter/{name}")))
            average.copy_(gradient.like(parameter, file.get_tensor(f"average/{name}")))
            for key in keys:
                value = file.get_tensor(f"optimizer/{key}/{name}")
                self.optimizer.state[parameter][key] = value if key == "step" else gradient.like(parameter, value)


def save(folder: Path, state: State, writes: bool = True) -> None:
    """Writes `folder/update-NNNNNN`, synced and renamed, then drops all but the newest `KEEP`.

    Args:
        writes: whether this rank does; each has to call where weights are sharded.
    """
    tensors = state.tensors(keep=writes)
    if not writes:
        return
    target = folder / f"update-{state.update:06d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(tensors, partial / "state.safetensors")
    _sync(partial / "state.safetensors")
    manifest = {"update": state.update, "epoch": state.epoch, "sha256": _sha256(partial / "state.safetensors")}
    write_json(partial / "manifest.json", manifest)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)
    for old in found(folder)[:-KEEP]:
        shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("update-*"))


def resume(folder: Path, state: State, decide: Callable[[Callable[[], Path | None]], Path | None]) -> bool:
    """Puts the newest checkpoint into `state`; False if there is none.

    Args:
        decide: `Ranks.decide`: the first rank alone looks for it and checks its hash.

    Raises:
        CheckpointError: the newest checkpoint is damaged or belongs to another model; nothing was changed.
    """
    chosen = decide(lambda: newest(folder, state.names))
    if chosen is None:
        return False
    manifest = json.loads((chosen / "manifest.json").read_text(encoding="utf-8"))
    state.restore(safe_open(chosen / "state.safetensors", "pt"))
    state.update, state.epoch = int(manifest["update"]), int(manifest["epoch"])
    return True


def newest(folder: Path, names: list[str]) -> Path | None:
    """The newest checkpoint of parameters with these names, its content checked; None if there is none.

    Raises:
        CheckpointError: as `resume`.
    """
    if not found(folder):
        return None
    last = found(folder)[-1]
    try:
        manifest = json.loads((last / "manifest.json").read_text(encoding="utf-8"))
        if _sha256(last / "state.safetensors") != manifest["sha256"]:
            raise CheckpointError("its hash is not the one that was written")
        file = safe_open(last / "state.safetensors", "pt")
        if {f"parameter/{name}" for name in names} - set(file.keys()):
            raise CheckpointError("it belongs to another model or adapter")
        int(manifest["update"]), int(manifest["epoch"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {last} cannot be used: {error}. Delete that folder to go on from the one before it, "
            "or run with FORCE=1 to start over"
        ) from error
    return last


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
