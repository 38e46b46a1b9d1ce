"""Full-state checkpoints: adapter, average, optimizer, position. Written whole or not at all, and checked by hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

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

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, contiguous and on the CPU."""
        found = {f"parameter/{n}": p.detach() for n, p in zip(self.names, self.parameters, strict=True)}
        found |= {f"average/{n}": a for n, a in zip(self.names, self.ema.average, strict=True)}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{key}/{name}"] = value
        return {key: value.cpu().contiguous() for key, value in found.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, in place."""
        keys = sorted({key.split("/")[1] for key in tensors if key.startswith("optimizer/")})
        for name, parameter, average in zip(self.names, self.parameters, self.ema.average, strict=True):
            parameter.copy_(tensors[f"parameter/{name}"])
            average.copy_(tensors[f"average/{name}"])
            for key in keys:
                value = tensors[f"optimizer/{key}/{name}"]
                self.optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)


def save(folder: Path, state: State) -> None:
    """Writes `folder/update-NNNNNN`, synced and renamed, then drops all but the newest `KEEP`."""
    target = folder / f"update-{state.update:06d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(state.tensors(), partial / "state.safetensors")
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


def resume(folder: Path, state: State) -> bool:
    """Puts the newest checkpoint into `state`; False if there is none.

    Raises:
        CheckpointError: the newest checkpoint is damaged or belongs to another model; nothing was changed.
    """
    if not found(folder):
        return False
    newest = found(folder)[-1]
    try:
        manifest = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))
        if _sha256(newest / "state.safetensors") != manifest["sha256"]:
            raise CheckpointError("its hash is not the one that was written")
        tensors = load_file(newest / "state.safetensors")
        if {f"parameter/{name}" for name in state.names} - set(tensors):
            raise CheckpointError("it belongs to another model or adapter")
        update, epoch = int(manifest["update"]), int(manifest["epoch"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {newest} cannot be used: {error}. Delete that folder to go on from the one before it, "
            "or run with FORCE=1 to start over"
        ) from error
    state.restore(tensors)
    state.update, state.epoch = update, epoch
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
