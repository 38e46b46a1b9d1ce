"""How far one run is, from its folder alone: without MLflow or torch, so that a login node answers at once too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.lock import owner

STATES = ("not begun", "running", "stopped", "preempted", "failed", "finished", "damaged")
RECENT = 5  # our choice: epochs, and evaluations, whose median is the rate; two slow ones among them move nothing
TAIL = 2**16  # bytes of times.jsonl that are read: some 400 epochs, however long the run


class _DamagedError(ValueError):
    """A record that cannot be read; the message names the file."""


@dataclass(frozen=True)
class Standing:
    """How far one run is.

    Attributes:
        state: one of `STATES`; `stopped` says that it is running and its process is gone.
        host: where it runs, or ran last.
        update, of: optimizer updates, done and planned; 0 of 0 for a base model.
        images_per_second: samples of an epoch over its seconds, updates included; None before the first epoch.
        seconds_left: see `estimate`.
        error: the last one, on one line.
    """

    row: str
    seed: int
    state: str
    host: str = ""
    update: int = 0
    of: int = 0
    images_per_second: float | None = None
    seconds_left: float | None = None
    error: str = ""


def read(folder: Path) -> Standing:
    """How far the run in RUNS/ROW/seedN is; a record that cannot be read is `damaged` and told in `error`."""
    row, seed = folder.parent.name, int(folder.name.removeprefix("seed"))
    try:
        held = owner(folder)
        alive = held is not None and held.alive
        info, status, times = _object(folder / "run.json"), _object(folder / "status.json"), _times(folder)
        state = _state(info, status, alive)
        update, of = int(status.get("update", 0)), int(status.get("of", info.get("updates", 0)))
        rate, left = estimate(info, update, times) if info else (None, None)
    except (OSError, _DamagedError) as error:
        return Standing(row, seed, "damaged", error=_line(error))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        return Standing(row, seed, "damaged", error=_line(f"the record lacks or misstates something: {error!r}"))
    return Standing(
        row=row,
        seed=seed,
        state=state,
        host=held.host if held and alive else str(times[-1].get("host", "")) if times else "",
        update=update,
        of=of,
        images_per_second=rate,
        seconds_left=None if state == "finished" else left,
        error="" if state in ("running", "finished") else _line(status.get("error") or ""),
    )


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _DamagedError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise _DamagedError(f"{path.name} holds no object")
    return found


def _times(folder: Path) -> list[dict[str, Any]]:
    """The last lines of times.jsonl that can be read; an estimate does without the others."""
    path = folder / "times.jsonl"
    if not path.exists():
        return []
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - TAIL)
        file.seek(start)
        lines = file.read().split(b"\n")
    return list(_objects(lines[1 if start else 0 :]))


def _objects(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _state(info: dict[str, Any], status: dict[str, Any], alive: bool) -> str:
    """A run whose process lives is running, whatever the one before it left; a finished one stays that."""
    said = status.get("state", "running" if info else "not begun")
    if said not in STATES:
        raise _DamagedError(f"status.json names the state {said!r}")
    if said == "finished":
        if status["update"] != status["of"]:
            raise _DamagedError(f"status.json says finished at update {status['update']} of {status['of']}")
        return "finished"
    if alive:
        return "running"
    return "stopped" if said == "running" else str(said)


def estimate(info: dict[str, Any], update: int, times: Sequence[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Images a second, and seconds until the planned end, from the medians of recent epochs and evaluations.

    Epochs on another number of ranks than the last do not count. Left out: loading, checkpoints, the judges of a
    server that is slow today, and that the last point may have more image sets than those before it.
    """
    of, settings = info["updates"], info["config"]
    every, parts = settings["evaluation"]["every"], settings["optim"]["updates_per_rollout"]
    evaluated = [line for line in times if "evaluation_seconds" in line]
    epoch = _typical([line for line in times if "epoch" in line], "seconds")
    evaluation = _typical(evaluated, "evaluation_seconds")
    last = max((line["update"] for line in evaluated), default=-1)
    points = sum(point > last for point in {*range(0, of, every), of})
    unknown = epoch is None if update < of else evaluation is None
    left = (of - update) / parts * (epoch or 0) + points * (evaluation or 0)
    return info["groups"] * info["group_size"] / epoch if epoch else None, None if unknown else left


def _typical(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    alike = [line[key] for line in lines if line.get("ranks") == lines[-1].get("ranks")]
    return median(alike[-RECENT:]) if alike else None


def _line(text: object) -> str:
    return " ".join(str(text).split())
