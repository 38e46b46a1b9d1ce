"""Several processes share one run and change none of its numbers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_runs import PROMPTS, lines, overrides, settings
from forked_ranks import command, fork

from bench import epoch, train
from bench.config import ConfigError
from bench.experiments import find_row
from bench.lock import RunLock
from bench.ranks import Ranks
from bench.rewarding import RewardError
from bench.session import Session, check_groups, recipe_of

ROW = "sd3_guard_text"


def together(
    count: int, folder: Path, *arguments: str, work: Callable[..., None] = command
) -> list[tuple[int | None, str]]:
    """Exit code and errors of `count` processes that torchrun would have started."""
    folder.mkdir(exist_ok=True)
    codes = fork(count, work, folder, *arguments)
    return [(code, (folder / f"errors-{rank}.txt").read_text()) for rank, code in enumerate(codes)]


def assert_same_evaluation(one: Path, other: Path, update: int) -> None:
    """Images, manifests and scores of all sets, byte for byte: before training nothing has been summed over ranks."""
    found = {path.relative_to(one) for path in one.rglob(f"update-{update:06d}*") if "checkpoints" not in path.parts}
    files = {
        each.relative_to(one) for name in found for each in [one / name, *(one / name).rglob("*")] if each.is_file()
    }
    assert len(files) == (4 + 1 + 1) + (5 + 1 + 1)
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_two_processes_train_the_run_that_one_trains_and_repeat_theirs_to_the_bit(tmp_path: Path) -> None:
    # Evaluation batches of two: of the gold set's four prompts two, of five texts three, so that a process lacks one.
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join((PROMPTS / "text.jsonl").read_text().splitlines(keepends=True)[:5]))
    asked = [*overrides(tmp_path), f"+evaluation.proxies={{text:{{prompts:{texts}}}}}", "evaluation.micro_batch=2"]
    asked += ["evaluation.every=4"]  # before training and at its end
    alone = train.run(settings(ROW, tmp_path, *asked))
    shared, again = (tmp_path / name / ROW / "seed0" for name in ("shared", "again"))
    for folder in (shared, again):
        errors = together(2, tmp_path, f"row={ROW}", *asked, f"runs={folder.parents[1]}")
        assert [code for code, _ in errors] == [0, 0], errors
    for name in ("metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors"):
        assert (shared / name).read_bytes() == (again / name).read_bytes(), name
    assert_same_evaluation(alone, shared, update=0)
    for one, two in zip(lines(alone / "metrics.jsonl"), lines(shared / "metrics.jsonl"), strict=True):
        assert [key for key in one if one[key] is None] == [key for key in two if two[key] is None]
        known = {key: value for key, value in one.items() if value is not None}
        assert {key: two[key] for key in known} == pytest.approx(known, rel=1e-3, abs=1e-6)


def test_what_the_first_process_refuses_every_process_refuses(tmp_path: Path) -> None:
    arguments = [f"row={ROW}", *overrides(tmp_path)]
    folder = tmp_path / "runs" / ROW / "seed0"
    folder.mkdir(parents=True)
    with RunLock(folder):
        refused = together(2, tmp_path, *arguments)
    for code, errors in refused:
        assert code == 75
        assert "bench.train: another process works on" in errors


def test_what_one_process_cannot_do_stops_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RewardError("no reward")

    ranks = Ranks()
    ranks.attempt(lambda: None)
    with pytest.raises(RewardError, match="no reward"):
        ranks.attempt(fails)
    # As seen from a rank that succeeded while its neighbour did not.
    monkeypatch.setattr(ranks, "gather", lambda errors: [*errors, RewardError("no reward")])
    with pytest.raises(RewardError, match="no reward"):
        ranks.attempt(lambda: None)


def test_a_process_without_a_trunk_is_refused(tmp_path: Path) -> None:
    asked = settings("sd3_temp_text", tmp_path)
    recipe = recipe_of(asked, find_row(asked.row))
    check_groups(asked, recipe, ranks=2)
    with pytest.raises(ConfigError, match="3 processes share 2 trunks of an epoch; start at most 2"):
        check_groups(asked, recipe, ranks=3)


def test_every_member_is_done_by_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    members = list(range(24))
    for count in (1, 2, 3, 4):
        shares = []
        for rank in range(count):
            ranks = Ranks()
            monkeypatch.setattr(ranks, "_accelerator", type("A", (), {"num_processes": count, "process_index": rank}))
            shares.append(ranks.share(members, 6))  # type: ignore[arg-type]
        assert [member for share in shares for member in share] == members
        assert all(len(share) % 6 == 0 for share in shares)


def test_a_terminated_run_says_that_it_was_and_goes_on(tmp_path: Path) -> None:
    arguments = [f"row={ROW}", *overrides(tmp_path), f"runs={tmp_path}/runs"]
    ((code, errors),) = together(1, tmp_path, *arguments, work=terminated)
    assert code == 75
    assert errors.strip().endswith("stopped by SIGTERM, saved; the same command goes on")
    status = tmp_path / "runs" / ROW / "seed0" / "status.json"
    assert json.loads(status.read_text())["state"] == "preempted"
    assert together(1, tmp_path, *arguments)[0][0] == 0
    assert json.loads(status.read_text())["state"] == "finished"


def terminated(folder: Path, *arguments: str) -> None:
    """`command`, sent SIGTERM at the end of its first epoch."""
    run = epoch.run

    def run_and_be_told(session: Session, *rest: Any) -> None:
        run(session, *rest)
        os.kill(os.getpid(), signal.SIGTERM)

    epoch.run = run_and_be_told
    command(folder, *arguments)
