"""One process at a time on a run: the living are respected, the dead are not waited for, of many takers one wins."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import lock
from bench.lock import STALE, RunLock, owner
from bench.record import LedgerError

FORK = multiprocessing.get_context("fork")
RACERS = 8


def claimed(folder: Path, age: float = 0.0, **changes: Any) -> Path:
    """A claim on the run in `folder` as another process left it, its last sign of life `age` seconds ago."""
    (folder / ".lock").mkdir(parents=True, exist_ok=True)
    path = folder / f".lock/{max(map(lock._number, lock._claims(folder / '.lock')), default=0) + 1:06d}.json"
    path.write_text(json.dumps(lock._this_process() | changes))
    os.utime(path, (time.time() - age,) * 2)
    return path


def free(folder: Path) -> bool:
    """Whether a process that asks now gets the run."""
    try:
        with RunLock(folder):
            return True
    except LedgerError:
        return False


def started(work: Callable[..., None], *arguments: Any) -> Any:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def hold(folder: Path, pipe: Any) -> None:
    with RunLock(folder):
        pipe.send(True)
        time.sleep(60)


def holder(folder: Path) -> Any:
    """A process that holds the run."""
    ours, theirs = FORK.Pipe()
    process = started(hold, folder, theirs)
    assert ours.poll(30) and ours.recv()
    return process


def test_a_second_process_is_told_who_works_on_the_run_and_what_to_do(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(LedgerError) as refusal, RunLock(tmp_path):
        pass
    words = f"another process works on {tmp_path}: process {process.pid} on {socket.gethostname()} since 20"
    assert str(refusal.value).startswith(words)
    assert "wait for it or choose another runs=" in str(refusal.value)
    found = owner(tmp_path)
    assert found and found.alive and found.pid == process.pid
    process.kill()
    process.join()


def test_the_run_of_a_killed_process_is_free_at_once_even_if_nobody_collected_its_body(tmp_path: Path) -> None:
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    left = owner(tmp_path)
    assert left and not left.alive
    assert free(tmp_path)
    assert owner(tmp_path) is None
    process.join()


def test_a_pid_that_came_back_to_another_process_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    claimed(tmp_path)
    assert not free(tmp_path)
    claimed(tmp_path, started=lock._this_process()["started"] - 60)
    assert free(tmp_path)


def test_a_pid_of_another_container_says_nothing_and_signs_of_life_decide(tmp_path: Path) -> None:
    for age, expected in ((STALE - 60, False), (STALE + 60, True)):
        claimed(tmp_path, age, namespace=1, pid=1)
        assert free(tmp_path) is expected


@pytest.mark.parametrize(
    ("age", "theirs", "expected"),
    [
        (STALE - 60, {"job": None}, False),
        (STALE + 60, {"job": None}, True),
        (0, {"job": "7_3", "restarts": 1}, True),  # we are 7_3, requeued for the second time
        (0, {"job": "7_3", "restarts": 2}, False),  # another process of our own attempt
        (0, {"job": "7_4", "restarts": 0}, False),
        (STALE + 60, {"job": "7_4", "restarts": 0}, True),
    ],
)
def test_another_hosts_run_is_free_when_it_is_silent_for_long_or_was_ours_before_a_requeue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, theirs: dict[str, Any], expected: bool
) -> None:
    for key, value in {"ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "3", "JOB_ID": "11", "RESTART_COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    claimed(tmp_path, age, host="elsewhere", **theirs)
    assert free(tmp_path) is expected


def test_a_claim_that_cannot_be_read_is_respected_while_it_is_young(tmp_path: Path) -> None:
    for content in ("", "{", "[]", '{"host": 1}'):
        path = claimed(tmp_path)
        path.write_text(content)
        assert not free(tmp_path)
        os.utime(path, (time.time() - STALE - 60,) * 2)
        assert free(tmp_path)


def test_the_lock_file_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert free(tmp_path)


def test_a_run_is_free_after_an_exception_and_its_folder_does_not_fill(tmp_path: Path) -> None:
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
            raise KeyboardInterrupt
    assert owner(tmp_path) is None
    assert sorted(path.name for path in (tmp_path / ".lock").iterdir()) == ["000004.json", "000005.json"]


def test_a_forked_child_does_not_free_its_parents_run(tmp_path: Path) -> None:
    with RunLock(tmp_path) as held:
        child = started(held.__exit__, None, None, None)
        child.join()
        assert not free(tmp_path)


def race(folder: Path, start: Any, done: Any, wins: Any) -> None:
    start.wait()
    try:
        with RunLock(folder):
            wins.put(os.getpid())
            done.wait()
    except LedgerError:
        done.wait()


@pytest.mark.parametrize("links", [True, False])
def test_of_many_processes_that_find_a_stale_claim_one_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for turn in range(5):
        folder = tmp_path / str(turn)
        claimed(folder, pid=2**22 + 1)  # beyond what Linux gives out
        start, done, wins = FORK.Barrier(RACERS), FORK.Barrier(RACERS), FORK.SimpleQueue()
        racers = [started(race, folder, start, done, wins) for _ in range(RACERS)]
        for racer in racers:
            racer.join()
        assert [racer.exitcode for racer in racers] == [0] * RACERS
        winner = wins.get()
        assert wins.empty() and winner in [racer.pid for racer in racers]


@pytest.mark.parametrize("links", [True, False])
def test_a_claim_that_is_there_is_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for name in ("mine", "theirs"):
        (tmp_path / name).write_text(name)
    assert not lock._publish(tmp_path / "mine", tmp_path / "theirs")
    assert lock._publish(tmp_path / "mine", tmp_path / "free")
    assert [(tmp_path / name).read_text() for name in ("theirs", "free")] == ["theirs", "mine"]


def no_links(*_: object) -> None:
    raise PermissionError("links are not supported")


def work_alone(folder: Path, end: float) -> None:
    """Takes the run and leaves it until `end`, a tenth of the times by its own death; 9 says that it was not alone."""
    chance = random.Random(os.getpid())
    while time.monotonic() < end:
        with contextlib.suppress(LedgerError), RunLock(folder):
            try:
                (folder / "inside").touch(exist_ok=False)
            except FileExistsError:
                os._exit(9)
            time.sleep(chance.random() / 1000)
            (folder / "inside").unlink()
            if chance.random() < 0.1:
                os.kill(os.getpid(), signal.SIGKILL)


def test_no_two_are_ever_inside_whoever_leaves_or_is_killed(tmp_path: Path) -> None:
    end = time.monotonic() + 2
    workers, codes = [started(work_alone, tmp_path, end) for _ in range(RACERS)], []
    while workers:
        worker = workers.pop(0)
        worker.join()
        codes.append(worker.exitcode)
        if time.monotonic() < end:
            workers.append(started(work_alone, tmp_path, end))
    assert {*codes} == {0, -signal.SIGKILL}
    assert free(tmp_path)


def test_a_taker_that_was_overtaken_by_several_others_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(tmp_path, pid=2**22 + 1)
    publish = lock._publish
    with contextlib.ExitStack() as others:

        def slowly(candidate: Path, claim: Path) -> bool:
            monkeypatch.setattr(lock, "_publish", publish)
            assert free(tmp_path) and free(tmp_path)
            others.enter_context(RunLock(tmp_path))
            return publish(candidate, claim)

        monkeypatch.setattr(lock, "_publish", slowly)
        assert not free(tmp_path)


def test_a_process_that_lost_its_run_says_so_at_its_next_sign_of_life_and_leaves_the_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    told: list[str] = []
    with RunLock(tmp_path, told.append) as held:
        held.check()
        (mine,) = (tmp_path / ".lock").iterdir()
        theirs = mine.with_name("000002.json")
        theirs.write_text(json.dumps(lock._this_process() | {"host": "elsewhere"}))
        mine.unlink()
        with pytest.raises(LedgerError, match=r"taken over by process \d+ on elsewhere .* no sign of life for 10 min"):
            held.check()
        assert until(lambda: bool(told)) and "taken over" in told[0]
    assert theirs.exists() and not mine.exists()


def test_signs_of_life_come_as_long_as_the_run_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with RunLock(tmp_path):
        (mine,) = (tmp_path / ".lock").iterdir()
        for _ in range(2):
            os.utime(mine, (0, 0))
            assert until(lambda: mine.stat().st_mtime > time.time() - 60)


def lose(folder: Path) -> None:
    lock.BEAT = 0.02
    with RunLock(folder):
        next((folder / ".lock").iterdir()).unlink()
        time.sleep(60)
        (folder / "written").touch()


def test_without_another_wish_a_process_that_lost_its_run_ends_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = started(lose, tmp_path)
    process.join(30)
    assert process.exitcode == 2
    assert capfd.readouterr().err.startswith(f"bench: {tmp_path} was taken over by another process, which is gone")
    assert not (tmp_path / "written").exists()


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
