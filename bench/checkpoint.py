"""Full-state checkpoints: adapter, average, optimizer, position. Written whole or not at all, and checked by hash."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench import gradient, seals
from bench.ema import Ema
from bench.record import METRIC_FILES
from bench.seals import digest, sync

KEEP = 2  # checkpoints; the newest, and one to fall back on
STATE, MANIFEST = "state.safetensors", "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names it and says what to do."""


@dataclass
class State:
    """What training carries from one update to the next, besides the noise, which has no state.

    Attributes:
        names: of the trained parameters, in the order of `parameters`.
        update, epoch: how many of each are done.
        saved: the update of the newest checkpoint; -1 without one.
    """

    names: list[str]
    parameters: list[Tensor]
    ema: Ema
    optimizer: torch.optim.Optimizer
    update: int = 0
    epoch: int = 0
    saved: int = -1

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

    It belongs to the record beside `folder` as that is now: a resumed run goes on from there.

    Args:
        writes: whether this rank does; each has to call where weights are sharded.
    """
    tensors = state.tensors(keep=writes)
    state.saved = state.update
    if not writes:
        return
    target = _name(folder, state.update)
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(tensors, partial / STATE)
        sync(partial / STATE)
        position = {"update": state.update, "epoch": state.epoch, "evaluated": False}
        seals.write_signed(partial / MANIFEST, position | {"state": digest(partial / STATE), "record": _record(folder)})
        (partial / STATE).chmod((partial / MANIFEST).stat().st_mode & 0o777)  # safetensors shuts colleagues out
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the room
        raise
    sync(folder)
    for old in found(folder)[:-KEEP]:
        shutil.rmtree(old)


def mark_evaluated(folder: Path, update: int) -> None:
    """Notes that the evaluation at the newest checkpoint is in the record."""
    manifest = _name(folder, update) / MANIFEST
    known = seals.read_signed(manifest)
    seals.write_signed(manifest, known | {"evaluated": True, "record": _record(folder), "before": known["record"]})


def mark_unevaluated(folder: Path, update: int) -> dict[str, Any]:
    """Notes that the evaluation at a checkpoint is to be made again; returns its manifest, of the record before it."""
    manifest = _name(folder, update) / MANIFEST
    known = seals.read_signed(manifest)
    changed = known | {"evaluated": False, "record": known["before"]}
    seals.write_signed(manifest, changed)
    return changed


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("update-*"))


def resume(folder: Path, state: State, decide: Callable[[Callable[[], Path | None]], Path | None]) -> dict[str, Any]:
    """Puts the newest good checkpoint into `state` and returns its manifest; empty if there is none.

    Args:
        decide: `Ranks.decide`: the first rank alone looks for it and checks its hashes.

    Raises:
        CheckpointError: none can be used, or it belongs to another model; `state` was not changed.
    """
    chosen = decide(lambda: newest(folder, state.names))
    if chosen is None:
        return {}
    manifest = seals.read_signed(chosen / MANIFEST)
    state.restore(safe_open(chosen / STATE, "pt"))
    state.update, state.epoch = manifest["update"], manifest["epoch"]
    state.saved = state.update
    return manifest


def newest(folder: Path, names: list[str]) -> Path | None:
    """The newest good checkpoint of parameters with these names; None if there is none at all.

    A damaged one is reported and steps aside, as `damaged-update-NNNNNN`; the one before it is taken.

    Raises:
        CheckpointError: all are damaged, or it belongs to another model.
    """
    faults = []
    for path in reversed(found(folder)):
        try:
            _check(path, folder.parent)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            faults.append(f"checkpoint {path} cannot be used: {error}")
            continue
        for fault, bad in zip(faults, reversed(found(folder)), strict=False):
            print(f"{fault}; going on from {path.name}", file=sys.stderr)
            shutil.rmtree(folder / f"damaged-{bad.name}", ignore_errors=True)
            bad.rename(folder / f"damaged-{bad.name}")
        _check_model(path, names)
        return path
    if faults:
        raise CheckpointError(f"{'; '.join(faults)}. No good one is left; FORCE=1 starts over")
    logged = folder.parent / "diagnostics.jsonl"
    if logged.exists() and logged.stat().st_size:
        raise CheckpointError(
            f"{logged} has updates, and {folder} no checkpoint; bring it back, or FORCE=1 starts over"
        )
    return None


def _check(path: Path, run: Path) -> None:
    """Whether the checkpoint and the record that it belongs to are what was written."""
    manifest = seals.read_signed(path / MANIFEST)
    if digest(path / STATE) != manifest["state"]:
        raise CheckpointError(f"the hash of {STATE} is not the one that was written")
    for name, written in manifest["record"].items():
        if digest(run / name, written["bytes"]) != written:
            raise CheckpointError(f"{run / name} is not what was written up to there")


def _check_model(path: Path, names: list[str]) -> None:
    with safe_open(path / STATE, "pt") as file:
        if {f"parameter/{name}" for name in names} - set(file.keys()):
            raise CheckpointError(
                f"checkpoint {path} cannot be used: it belongs to another model or adapter; FORCE=1 starts over"
            )


def _record(folder: Path) -> dict[str, Any]:
    """Hashes of the metric files beside `folder` as they are now, for good on disk."""
    paths = [path for path in (folder.parent / name for name in METRIC_FILES) if path.exists()]
    for path in paths:
        sync(path)
    return {path.name: digest(path) for path in paths}


def _name(folder: Path, update: int) -> Path:
    return folder / f"update-{update:06d}"
