"""Several processes share one run and change none of its numbers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from bench_runs import lines, overrides, settings
from filelock import FileLock

from bench import train
from bench.config import ConfigError
from bench.experiments import find_row
from bench.ranks import Ranks
from bench.rewarding import RewardError
from bench.session import check_groups, recipe_of

ROW = "sd3_guard_text"
PATIENCE = 120  # seconds, after which processes count as waiting for each other for ever


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def together(count: int, *arguments: str) -> list[tuple[int, str]]:
    """Exit code and errors of `count` processes that torchrun would have started."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    ranks = [os.environ | shared | {"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count)]
    command = [sys.executable, "-m", "bench.train", *arguments]
    running = [subprocess.Popen(command, env=each, stderr=subprocess.PIPE, text=True) for each in ranks]
    try:
        errors = [process.communicate(timeout=PATIENCE)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, each) for process, each in zip(running, errors, strict=True)]


def test_two_processes_train_the_run_that_one_trains(tmp_path: Path) -> None:
    alone = train.run(settings(ROW, tmp_path))
    arguments = [f"row={ROW}", *overrides(tmp_path), f"runs={tmp_path}/shared"]
    assert [code for code, _ in together(2, *arguments)] == [0, 0]
    (shared,) = (tmp_path / "shared").rglob("run.json")
    for one, two in zip(lines(alone / "metrics.jsonl"), lines(shared.parent / "metrics.jsonl"), strict=True):
        assert [key for key in one if one[key] is None] == [key for key in two if two[key] is None]
        known = {key: value for key, value in one.items() if value is not None}
        assert {key: two[key] for key in known} == pytest.approx(known, rel=1e-3, abs=1e-6)


def test_what_the_first_process_refuses_every_process_refuses(tmp_path: Path) -> None:
    arguments = [f"row={ROW}", *overrides(tmp_path)]
    folder = tmp_path / "runs" / ROW / "seed0"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        refused = together(2, *arguments)
    for code, errors in refused:
        assert code == 2
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
