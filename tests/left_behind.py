"""What a process that was killed has left of a run, and how a run's files differ from another's."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from pathlib import Path

from bench_runs import lines

# Differ between equal runs: when and where each epoch was made, and the paths in the request.
OWN = ("times.jsonl", "run.json", "files.json")
PARTS = {"checkpoints": "checkpoint being written", "images": "images being written", "scores": "scores being written"}


def newest(run: Path) -> int | None:
    """The update of the newest checkpoint."""
    found = sorted((run / "checkpoints").glob("update-*"))
    return int(found[-1].name.removeprefix("update-")) if found else None


def in_the_making(run: Path) -> set[tuple[Path, int]]:
    """What is half-written in a run's folder, with its time."""
    found = {*run.rglob("*.partial"), *run.glob("images/**/.*"), *run.glob("scores/**/.*")}
    with contextlib.suppress(FileNotFoundError):
        return {(path, path.stat().st_mtime_ns) for path in found if ".lock" not in path.parts}
    return set()


def phase_of(run: Path, kind: str, began: float, before: set[tuple[Path, int]]) -> str:
    """What a process that began then was about when it died, by the files that it left."""
    made = [path.relative_to(run).as_posix() for path, _ in in_the_making(run) - before]
    for folder, phase in PARTS.items():
        if any(name.startswith(folder) and not name.endswith(".asked") for name in made):
            return f"{kind}: {phase}"
    if [name for name in made if not name.endswith(".asked")]:
        return f"{kind}: record being written"
    touched = [path.stat().st_mtime for path in run.rglob("*") if path.is_file() and ".lock" not in path.parts]
    if max(touched, default=0.0) < began:
        return f"{kind}: loading"
    if kind == "judge":
        return f"{kind}: scoring"
    return f"{kind}: evaluating" if evaluating(run) else f"{kind}: sampling and learning"


def evaluating(run: Path) -> bool:
    """Whether an evaluation is due and not in the record: after the newest checkpoint, or of a base model."""
    update = newest(run)
    if update is None:
        return True
    manifest = json.loads((run / f"checkpoints/update-{update:06d}/manifest.json").read_text())
    asked = json.loads((run / "run.json").read_text())
    due = update % asked["config"]["evaluation"]["every"] == 0 or update == asked["updates"]
    return due and not manifest["evaluated"]


def differences(one: Path, other: Path) -> list[str]:
    """How a disturbed run differs from an undisturbed one: in any byte of any file, and in what is left over."""
    here, there = (
        {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() and ".lock" not in path.parts}
        for run in (one, other)
    )
    found = [f"{name} is missing" for name in sorted(here - there)] + [
        f"{n} is left over" for n in sorted(there - here)
    ]
    for name in sorted(here & there - {*OWN}):
        if (one / name).read_bytes() != (other / name).read_bytes():
            found.append(f"{name} differs")
    if request(one) != request(other):
        found.append("run.json differs")
    return found + doubled(other)


def request(run: Path) -> str:
    """run.json without paths and commit, which another commit in the meantime would change."""
    return re.sub(r'"(runs|prompts|tracking|git_commit)": .*', "", (run / "run.json").read_text())


def doubled(run: Path) -> list[str]:
    """Whatever is not in the record exactly once: (update, metric), and an update's diagnostics."""
    metrics = Counter((row["update"], name) for row in lines(run / "metrics.jsonl") for name in row)
    path = run / "diagnostics.jsonl"
    updates = Counter((row["update"], "diagnostics") for row in (lines(path) if path.exists() else ()))
    # An update and its epoch are named by each of its lines.
    twice = [each for each, times in (metrics + updates).items() if times > 1 and each[1] not in ("update", "epoch")]
    return [f"{name} of update {update} is there more than once" for update, name in twice]
