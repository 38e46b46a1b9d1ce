"""MLflow is a copy of the record: each run and each point once, whatever was killed, cut or imported in between."""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_ledger import write_run

from bench import ledger, seals
from bench.ledger import __main__ as command
from bench.ledger.copies import copy
from bench.ledger.store import Store, StoreError
from bench.lock import RunLock
from bench.record import Record

INFO = {"row": "sd3_flow_text", "seed": 0, "method": "FlowGRPO", "suite": "tiny", "recipe": {"clip": 1e-4}}
STORED = "sqlite:///{}/mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path) -> Path:
    """A folder for runs with a store in it."""
    shutil.copy(empty_store, tmp_path)
    return tmp_path


def made(runs: Path, updates: int = 3, row: str = "sd3_flow_text", state: str = "finished") -> Path:
    record = Record(runs / row / "seed0")
    record.begin(INFO | {"row": row})
    log(record, range(1, updates + 1))
    record.status(state, updates, updates)
    return record.folder


def log(record: Record, updates: range, scale: float = 0.1) -> None:
    for update in updates:
        record.append("metrics", {"update": update, "epoch": update // 2, "proxy/reward": scale * update})


def cut(folder: Path, lines: int) -> None:
    kept = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:lines]
    Record(folder).cut({"metrics.jsonl": len(b"".join(kept))})


def client(runs: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(STORED.format(runs))


def stored(runs: Path) -> list[Any]:
    """The runs in the store that were not deleted."""
    found = client(runs)
    return list(found.search_runs([each.experiment_id for each in found.search_experiments()]))


def history(runs: Path, run_id: str, name: str = "proxy/reward") -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client(runs).get_metric_history(run_id, name)]


def run_command(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        command.main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_importing_twice_leaves_each_run_and_each_step_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row in ("sd3_flow_text", "sd3_guard_text"):
        ledger.mirror(ledger.read(made(runs, row=row)), STORED.format(runs))
    for _ in range(2):
        assert run_command("import", runs) == 0
        assert capsys.readouterr().out.startswith("bench.ledger: 2 runs (2 FINISHED) and 6 points to sqlite:///")
    found = stored(runs)
    assert sorted(run.data.tags["row"] for run in found) == ["sd3_flow_text", "sd3_guard_text"]
    for run in found:
        assert history(runs, run.info.run_id) == [(update, 0.1 * update) for update in (1, 2, 3)]


def test_a_store_that_is_lost_is_made_again_from_the_folders(runs: Path, empty_store: Path) -> None:
    folder = made(runs)
    ledger.mirror(ledger.read(folder), STORED.format(runs))
    again = runs / "again"
    again.mkdir()
    shutil.copy(empty_store, again)
    assert run_command("import", runs, "--uri", STORED.format(again)) == 0
    (run,) = stored(again)
    assert history(again, run.info.run_id) == [(update, 0.1 * update) for update in (1, 2, 3)]
    assert run.info.end_time == int((folder / "status.json").stat().st_mtime * 1000)
    artifact = Path(run.info.artifact_uri.removeprefix("file://")) / "run.json"
    assert json.loads(artifact.read_text())["row"] == "sd3_flow_text"


def test_a_damaged_run_is_named_and_the_others_are_copied(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, cut, torn, flipped, odd = (
        made(runs, row=row) for row in ("sd3_flow_text", "sd3_base", "flux_base", "sd3_guard_text", "flux_dance_text")
    )
    ledger.mirror(ledger.read(torn), STORED.format(runs))
    (cut / "run.json").write_text("{")
    lines = (torn / "metrics.jsonl").read_bytes()
    (torn / "metrics.jsonl").write_bytes(lines.replace(b'"update": 1}', b'"update": 1'))
    seals.seal(flipped, flipped / "metrics.jsonl")
    (flipped / "metrics.jsonl").write_bytes(lines.replace(b"0.2", b"0.3"))
    (odd / "metrics.jsonl").write_text('{"update": 1, "epoch": 0, "proxy/reward": [1]}\n')
    assert run_command("import", runs) == 1
    told = capsys.readouterr()
    assert "1 runs (1 FINISHED) and 3 points" in told.out and "4 runs damaged" in told.out
    for folder in (cut, torn / "metrics.jsonl, line 1", flipped / "metrics.jsonl", odd / "metrics.jsonl, line 1"):
        assert f"left out: {folder}" in told.err or f"left out: the record in {folder}" in told.err
    # What was copied of a run before it was damaged stays.
    assert {run.data.tags["folder"] for run in stored(runs)} == {str(good), str(torn)}


def test_what_is_not_finite_is_left_out_and_counted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(runs, updates=1)
    Record(folder).append("metrics", {"update": 2, "epoch": 1, "proxy/reward": math.nan, "gold/hpsv2": -math.inf})
    with (folder / "metrics.jsonl").open("a") as file:  # by another hand: JSON as Python writes it
        file.write('{"update": 3, "epoch": 1, "proxy/reward": Infinity, "gold/hpsv2": 0.5}\n')
    assert run_command("import", runs) == 0
    assert "2 points" in (told := capsys.readouterr().out) and "3 values that are not finite left out" in told
    (run,) = stored(runs)
    assert run.data.tags["not_finite"] == "3"
    assert history(runs, run.info.run_id) == [(1, 0.1)]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"update": 4, "epoch": 2, "proxy/reward": NaN}\n')
    assert run_command("reconcile", runs) == 0
    assert [run.data.tags["not_finite"] for run in stored(runs)] == ["4"]


@pytest.mark.parametrize("act", ["import", "reconcile"])
def test_a_run_whose_process_is_gone_is_killed_and_one_that_is_there_is_running(runs: Path, act: str) -> None:
    folder = made(runs, state="running")
    with RunLock(folder):
        ledger.mirror(ledger.read(folder), STORED.format(runs))
        assert run_command(act, runs) == 0
        assert [run.info.status for run in stored(runs)] == ["RUNNING"]
    assert run_command(act, runs) == 0
    assert [run.info.status for run in stored(runs)] == ["KILLED"]


def test_a_run_that_goes_on_after_a_preemption_is_running_again_and_ends_finished(runs: Path) -> None:
    folder, seen = made(runs, state="preempted"), []
    for state in ("preempted", "running", "finished"):
        Record(folder).status(state, 3, 4)
        with RunLock(folder):
            ledger.mirror(ledger.read(folder), STORED.format(runs))
        seen += [run.info.status for run in stored(runs)]
    assert seen == ["KILLED", "RUNNING", "FINISHED"]


@pytest.mark.parametrize("scale", [0.1, 0.2])
def test_steps_that_were_cut_and_done_again_are_there_once_and_as_they_came_out_last(runs: Path, scale: float) -> None:
    folder, uri = made(runs, updates=4), STORED.format(runs)
    ledger.mirror(ledger.read(folder), uri)
    cut(folder, lines=2)
    ledger.mirror(ledger.read(folder), uri)
    log(Record(folder), range(3, 6), scale)
    ledger.mirror(ledger.read(folder), uri)
    (run,) = stored(runs)
    expected = [(u, 0.1 * u) for u in (1, 2)] + [(u, scale * u) for u in (3, 4, 5)]
    assert history(runs, run.info.run_id) == expected


@pytest.mark.parametrize("scale", [0.1, 0.2])
def test_a_copy_that_was_killed_after_it_sent_and_before_it_could_say_so_leaves_each_step_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    folder, store = made(runs, updates=2), Store(STORED.format(runs), runs)
    copy(ledger.read(folder), store)
    log(Record(folder), range(3, 5))
    log_points = Store.log

    def killed_behind_it(*arguments: Any) -> None:
        log_points(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Store, "log", killed_behind_it)
        copy(ledger.read(folder), store)
    # The next attempt went on from update 2: on other ranks its numbers can differ in their last bits.
    cut(folder, lines=2)
    log(Record(folder), range(3, 6), scale)
    copy(ledger.read(folder), store)
    (run,) = stored(runs)
    assert history(runs, run.info.run_id) == [(1, 0.1), (2, 0.2), *((u, scale * u) for u in (3, 4, 5))]


def test_a_mark_of_an_earlier_version_or_a_broken_one_costs_a_new_copy_and_nothing_else(runs: Path) -> None:
    folder, uri = made(runs), STORED.format(runs)
    ledger.mirror(ledger.read(folder), uri)
    for mark in ("{", "[]", json.dumps({"uri": uri, "run_id": "0", "lines": {"metrics.jsonl": 9}})):
        (folder / "mlflow.json").write_text(mark)
        ledger.mirror(ledger.read(folder), uri)
        (run,) = stored(runs)
        assert len(history(runs, run.info.run_id)) == 3


def test_a_store_is_the_same_from_whatever_folder_it_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(runs)
    monkeypatch.chdir(runs)
    first = ledger.mirror(ledger.read(folder), "sqlite:///mlflow.db")
    monkeypatch.chdir(folder)
    assert ledger.mirror(ledger.read(folder), "sqlite:///../../mlflow.db") == first


def test_every_scale_of_a_study_reaches_the_store_with_its_recipe(runs: Path) -> None:
    folder = write_run(runs, "sd3_guard_text")
    assert run_command("import", runs) == 0
    (run,) = stored(runs)
    assert run.data.params["name"] == "guard_flow_grpo"
    assert {"proxy/text", "ratio/std/off_policy/08"} <= run.data.metrics.keys()
    assert run.info.start_time == int((folder / "run.json").stat().st_mtime * 1000)


def test_a_busy_store_is_asked_again_and_another_fault_is_told_in_a_line(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_STATE, TEMPORARILY_UNAVAILABLE

    store, faults = Store(STORED.format(runs), runs), [TEMPORARILY_UNAVAILABLE] * 2
    real = store._client.create_run
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)

    def fails(*arguments: Any, **named: Any) -> Any:
        if faults:
            raise MlflowException("(sqlite3.OperationalError) database is\nlocked", faults.pop())
        return real(*arguments, **named)

    monkeypatch.setattr(store._client, "create_run", fails)
    assert copy(ledger.read(made(runs)), store).points == 3
    faults.append(INVALID_STATE)
    with pytest.raises(StoreError, match=r"store sqlite:///.*mlflow.db cannot be used \(.*database is locked\)"):
        copy(ledger.read(made(runs, row="sd3_base")), store)


def create(runs: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        command.main(["create", str(runs)])


def test_eight_processes_may_make_a_store_at_once(tmp_path: Path, empty_store: Path) -> None:
    context = multiprocessing.get_context("fork")  # from here, where MLflow is imported
    processes = [context.Process(target=create, args=(tmp_path,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert run_command("create", tmp_path) == 0
    assert [each.name for each in client(tmp_path).search_experiments()] == ["grpo-guard-bench", "Default"]


def test_a_wrong_folder_and_a_store_that_is_none_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    for arguments, words in {
        ("import", tmp_path / "nowhere"): "no folder of runs at",
        ("create", tmp_path): "the MLflow store sqlite:////",
        ("create", tmp_path, "--uri", "http://user:hunter2@localhost"): "the tracking address holds a password",
    }.items():
        assert run_command(*arguments) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith(f"bench.ledger: {words}") and "hunter2" not in told
    assert not (tmp_path / "nowhere").exists()
