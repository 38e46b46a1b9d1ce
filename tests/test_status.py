"""What `bench.status` says of runs, from hand-made run folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import standing, status
from bench.experiments import SUITES
from bench.record import write_json
from bench.standing import Standing, estimate, read

INFO = {
    "updates": 60,
    "groups": 8,
    "group_size": 12,
    "config": {"evaluation": {"every": 20}, "optim": {"updates_per_rollout": 2}},
}


def epochs(*seconds: float, ranks: int = 1) -> list[dict[str, Any]]:
    return [{"epoch": n, "seconds": s, "ranks": ranks, "host": "node7"} for n, s in enumerate(seconds, start=1)]


def evaluations(**seconds: float) -> list[dict[str, Any]]:
    return [{"update": int(at[1:]), "evaluation_seconds": s, "ranks": 1, "host": "node7"} for at, s in seconds.items()]


def make(root: Path, row: str, state: str, update: int = 20, error: str | None = None, **more: Any) -> Path:
    """A run folder as `bench.train` leaves it."""
    folder = root / row / "seed0"
    folder.mkdir(parents=True)
    write_json(folder / "run.json", INFO)
    write_json(folder / "status.json", {"state": state, "update": update, "of": 60, "error": error})
    lines = more.get("times", epochs(*[10.0] * (update // 2)))
    (folder / "times.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Folders on which a process works."""
    folders: set[Path] = set()
    host = SimpleNamespace(host="node9", alive=True)
    monkeypatch.setattr(standing, "owner", lambda folder: host if folder in folders else None)
    return folders


def test_every_state_is_told_apart(tmp_path: Path, living: set[Path]) -> None:
    for row, state in (
        ("sd3_base", "running"), ("sd3_flow_text", "running"), ("sd3_guard_text", "preempted"),
        ("flux_dance_text", "failed"), ("flux_guard_text", "preempted"),
    ):  # fmt: skip
        folder = make(tmp_path, row, state, error="OSError: a reason")
        if row in ("sd3_base", "flux_guard_text"):
            living.add(folder)
    make(tmp_path, "sd3_temp_text", "finished", update=60)
    (tmp_path / "sd3_flow_geneval/seed0").mkdir(parents=True)  # a job that waits has a log and nothing else
    found = {run.row: run for run in status.survey(tmp_path, SUITES["table1"], [], others=True)}
    assert {row: run.state for row, run in found.items() if run.state != "not begun"} == {
        "sd3_base": "running", "sd3_flow_text": "stopped", "sd3_guard_text": "preempted",
        "flux_dance_text": "failed", "flux_guard_text": "running", "sd3_temp_text": "finished",
    }  # fmt: skip
    assert len(found) == 13
    assert found["sd3_base"].host == "node9" and found["sd3_flow_text"].host == "node7"
    assert found["flux_dance_text"].error == "OSError: a reason" and not found["flux_guard_text"].error


def test_the_time_left_is_what_is_left_at_the_medians_of_recent_epochs_and_evaluations() -> None:
    times = epochs(500, 500, 500, 500, 9, 11, 10, 300, 10) + evaluations(u0=30, u20=40)
    rate, left = estimate(INFO, 20, times)
    assert rate == 8 * 12 / 10
    assert left == (60 - 20) / 2 * 10 + 2 * 35  # points after updates 40 and 60
    assert estimate(INFO, 20, times[:-1])[1] == 20 * 10 + 3 * 30  # the point at 20 was not reached


def test_epochs_on_other_ranks_say_nothing_of_the_next() -> None:
    assert estimate(INFO, 20, epochs(80, 80, 80) + epochs(10, 10, ranks=8))[0] == 8 * 12 / 10


def test_nothing_is_estimated_from_nothing() -> None:
    assert estimate(INFO, 0, []) == (None, None)
    assert estimate(INFO | {"updates": 0}, 0, []) == (None, None)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run.json", '{"updates": 60', "run.json cannot be read"),
        ("run.json", '{"updates": 60}', "the record lacks or misstates something: KeyError('config')"),
        ("status.json", "[]", "status.json holds no object"),
        ("status.json", '{"state": "finished", "update": 20, "of": 60}', "finished at update 20 of 60"),
        ("status.json", '{"state": "done"}', "names the state 'done'"),
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, words: str
) -> None:
    (make(tmp_path, "sd3_flow_text", "finished", update=60) / file).write_text(content)
    make(tmp_path, "sd3_guard_text", "finished", update=60)
    status.main([str(tmp_path), "--row", "sd3_flow_text", "--row", "sd3_guard_text"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].split() == ["sd3_flow_text", "0", "damaged"] and words in shown[3]
    assert shown[4].split()[:3] == ["sd3_guard_text", "0", "finished"]
    assert shown[5] == "1 finished, 1 damaged"


def test_torn_and_damaged_lines_of_times_cost_their_epoch_alone(tmp_path: Path) -> None:
    folder = make(tmp_path, "sd3_flow_text", "preempted")
    with (folder / "times.jsonl").open("a") as file:
        file.write('{"epoch": 11, "sec{"epoch": 11}\n"text"\n{"epoch": 12, "seco')
    assert read(folder).images_per_second == 8 * 12 / 10


def test_lines_stay_within_a_hundred_characters_and_an_error_on_one(tmp_path: Path) -> None:
    folder = make(tmp_path, "sd3_guard_released_text", "failed", error="first line\nand a second " + "long " * 60)
    run = read(folder)
    wide = Standing(**vars(run) | {"host": "gpu-node-0123.cluster.example", "update": 10120, "of": 10200})
    lines = status.table([wide]).splitlines()
    assert max(map(len, lines)) == 100 and "    first line and a second long" in lines[3]
    assert "gpu-node-0123…" in lines[2] and len(lines) == 5


def test_a_script_gets_the_state_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "sd3_flow_text", "finished", update=60)
    for seed, word in (("0", "finished"), ("1", "not begun")):
        status.main([str(tmp_path), "--row", "sd3_flow_text", "--seed", seed, "--state"])
        assert capsys.readouterr().out == f"{word}\n"
    with pytest.raises(SystemExit, match="no row is called 'x; touch pwned'"):
        status.main([str(tmp_path), "--row", "x; touch pwned", "--seed", "0", "--state"])
    with pytest.raises(SystemExit):
        status.main([str(tmp_path), "--state"])


def test_data_are_what_the_table_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "sd3_flow_text", "preempted")
    status.main([str(tmp_path), "--suite", "ablation", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {run["row"] for run in found} == {*SUITES["ablation"]}
    assert found[0] | {"error": ""} == {
        "row": "sd3_flow_text", "seed": 0, "state": "preempted", "host": "node7", "update": 20, "of": 60,
        "images_per_second": 9.6, "seconds_left": 200.0, "error": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(20, "20 s"), (59.7, "1 min"), (3570, "1 h 00 min"), (3 * 3600, "3 h 00 min"), (75 * 3600, "3 d 03 h")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert status._duration(seconds) == shown


def test_fifty_long_runs_are_read_in_well_under_a_second(tmp_path: Path) -> None:
    one = make(tmp_path, "sd3_flow_pickscore", "running", times=epochs(*[1.0] * 5000))
    for seed in range(1, 50):
        shutil.copytree(one, one.with_name(f"seed{seed}"))
    began = time.process_time()
    assert len(status.survey(tmp_path, ["sd3_flow_pickscore"], [], others=False)) == 50
    assert time.process_time() - began < 0.5


def test_the_command_loads_neither_torch_nor_mlflow() -> None:
    code = "import sys, bench.status; print(*sorted({'torch', 'mlflow', 'hydra', 'pandas'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
