"""A disk that fills: a run stops with one message that has the figures, and goes on when there is room."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_runs import lines, overrides, settings
from forked_ranks import command, fork
from safetensors import SafetensorError

import gold_metrics
from bench import checkpoint, epoch, room, space, train, trained
from bench.config import Config
from bench.experiments import find_row, judge_names
from bench.record import METRIC_FILES, Record, write_json
from bench.session import Session
from bench.space import SpaceError
from bench.update import GateError
from gold_metrics import image_set

ROW = "sd3_flow_text"
DISK = 8 * 2**20  # bytes, of which a small run takes about 3 MB
EVERYTHING = ("metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real small disk."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted, which needs root: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def folder(disk: Path) -> Iterator[Path]:
    """A folder on the small disk, which is empty afterwards."""
    made = disk / "run"
    made.mkdir()
    yield made
    shutil.rmtree(made)
    empty(disk)


def fill(disk: Path, leave: int) -> None:
    """Leaves `leave` bytes of the disk to others."""
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        more = shutil.disk_usage(disk).free - leave
        if more > 0:
            os.posix_fallocate(file.fileno(), file.tell(), more)


def empty(disk: Path) -> None:
    (disk / "ballast").unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def asked(folder: Path) -> Config:
    return settings(ROW, folder, f"runs={folder}/runs")


def run_folder(folder: Path) -> Path:
    return folder / "runs" / ROW / "seed0"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.run(asked(tmp_path_factory.mktemp("undisturbed")))


def assert_goes_on(disk: Path, folder: Path, undisturbed: Path) -> None:
    """With room again the same call ends with the bytes of a run that never lacked it."""
    empty(disk)
    run = train.run(asked(folder))
    images = [path.relative_to(undisturbed) for path in undisturbed.glob("images/*/*")]
    for name in [*EVERYTHING, *images]:
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert (run / "status.json").read_bytes() == (undisturbed / "status.json").read_bytes()


def assert_whole(run: Path) -> None:
    """Nothing half-written is left or passes for whole."""
    assert not [*run.rglob("*.partial"), *run.rglob(".update-*")]
    for name in (*METRIC_FILES, "times.jsonl"):
        content = (run / name).read_bytes() if (run / name).exists() else b""
        assert content.endswith(b"\n") or not content, name
    for path in checkpoint.found(run / "checkpoints"):
        checkpoint._check(path, run)
    assert not [*run.glob("lora/*")]  # all of these runs stop before their end


def test_a_run_that_would_not_fit_stops_before_it_trains(disk: Path, folder: Path, undisturbed: Path) -> None:
    config = asked(folder)
    fill(disk, 2**20)
    with pytest.raises(SpaceError) as told:
        train.run(config)
    figures = rf"2\.\d MB more are needed in {run_folder(folder)} and 1\.0 MB are free on the disk at {disk}; make room"
    assert told.match(f"^too little room for the run: {figures}")
    status = read_json(run_folder(folder) / "status.json")
    assert (status["state"], status["update"]) == ("failed", 0) and str(told.value) in status["error"]
    assert not (run_folder(folder) / "metrics.jsonl").exists()
    assert_goes_on(disk, folder, undisturbed)


def test_a_disk_that_others_fill_stops_the_run_at_the_next_checkpoint(
    disk: Path, folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = epoch.run

    def run(session: Session, *rest: object) -> None:
        real(session, *rest)  # type: ignore[arg-type]
        if session.state.update == 4:
            fill(disk, 2**20)

    monkeypatch.setattr(epoch, "run", run)
    with pytest.raises(SpaceError, match=r"^too little room for the checkpoint of update 4: 1\.\d MB more are needed"):
        train.run(asked(folder))
    assert_whole(run_folder(folder))
    assert read_json(run_folder(folder) / "status.json")["update"] == 4
    monkeypatch.undo()
    assert_goes_on(disk, folder, undisturbed)


def filling(disk: Path, leave: int, real: Callable[..., object], when: Callable[..., bool]) -> Callable[..., object]:
    """The function, before whose first call with `when` the disk fills."""
    done: list[bool] = []

    def call(*given: object, **named: object) -> object:
        if not done and when(*given):
            done.append(True)
            fill(disk, leave)
        return real(*given, **named)

    return call


def second(tensors: object, path: Path) -> bool:
    return "update-000002" in str(path)


# Where the disk fills: a function that writes, bytes that are left, before which call, and what the message names.
WRITES: dict[str, tuple[object, str, int, Callable[..., bool], str]] = {
    "metrics line": (Record, "append", 0, lambda record, name, row: name == "diagnostics", "the run"),
    "status": (Record, "status", 0, lambda record, state, update, of: update == 2, "the run"),
    "checkpoint": (checkpoint, "save_file", 100_000, second, "the checkpoint of update 2"),
    "manifest": (checkpoint, "mark_evaluated", 0, lambda folder, update: update == 2, "the evaluation at update 2"),
    "image set": (image_set, "write", 4096, lambda folder, *_: second(0, folder), "the evaluation at update 2"),
    "scores": (gold_metrics, "write_scores", 4096, second, "the evaluation at update 2"),
    "adapter": (trained, "save_file", 4096, lambda *_: True, "the run"),
}


@pytest.mark.parametrize("place", WRITES)
def test_a_disk_that_is_full_in_the_middle_of_a_write_tears_nothing(
    disk: Path, folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner, name, leave, when, what = WRITES[place]
    monkeypatch.setattr(owner, name, filling(disk, leave, getattr(owner, name), when))
    with pytest.raises(SpaceError) as told:
        train.run(asked(folder))
    assert told.match(rf"^the disk is full while writing {what}")
    assert told.match(
        rf"MB more are needed in {run_folder(folder)} and \d+\.\d [kM]B are free on the disk at {disk}; make"
    )
    assert_whole(run_folder(folder))
    monkeypatch.undo()
    assert_goes_on(disk, folder, undisturbed)


def test_a_disk_that_is_full_before_the_run_begins_is_told_as_well(disk: Path, folder: Path) -> None:
    config = asked(folder)
    config.backbones["sd3"].embeddings = str(folder / "embeddings")
    fill(disk, 0)
    with pytest.raises(SpaceError, match=rf"^the disk is full while writing the run.* 0\.0 kB are free .* at {disk}"):
        train.run(config)


def test_another_error_on_a_full_disk_is_the_one_that_is_told(
    disk: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        fill(disk, 0)
        raise GateError("the gradient is not finite")

    monkeypatch.setattr(epoch, "run", run)
    with pytest.raises(GateError):
        train.run(asked(folder))
    assert read_json(run_folder(folder) / "status.json")["state"] == "running"  # no room for more


def test_the_command_tells_it_in_one_line_and_a_code(disk: Path, folder: Path, tmp_path: Path) -> None:
    fill(disk, 2**20)
    arguments = [f"row={ROW}", *overrides(tmp_path), f"runs={folder}/runs"]
    assert fork(1, command, tmp_path, *arguments) == [2]
    said = (tmp_path / "errors-0.txt").read_text().splitlines()
    assert len(said) == 1 and said[0].startswith("bench.train: too little room for the run: ")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "in another language"),
        OSError(errno.EDQUOT, "in another language"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_known_whichever_library_says_so(tmp_path: Path, error: Exception) -> None:
    words = r"^the disk is full while writing a thing: 7\.3 MB more are needed in"
    with pytest.raises(SpaceError, match=words), space.explained(tmp_path, "a thing", lambda: 6_251_424):
        raise RuntimeError("wrapped") from error


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (PermissionError(errno.EACCES, "no"), ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), space.explained(tmp_path, "a thing"):
            raise error


def test_a_line_that_does_not_fit_is_not_left_in_part(disk: Path, folder: Path) -> None:
    record = Record(folder)
    record.append("times", {"epoch": 1})
    before = (folder / "times.jsonl").read_bytes()
    fill(disk, 4096)
    with pytest.raises(OSError, match="No space left"):
        record.append("times", {"epoch": "x" * 10_000})
    assert (folder / "times.jsonl").read_bytes() == before
    empty(disk)
    record.append("times", {"epoch": 2})
    assert [line["epoch"] for line in lines(folder / "times.jsonl")] == [1, 2]


def test_a_json_file_without_room_leaves_the_old_one_and_no_part(disk: Path, folder: Path) -> None:
    path = folder / "a.json"
    write_json(path, {"old": 1})
    fill(disk, 0)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"new": "x" * 10_000})
    assert read_json(path) == {"old": 1} and [each.name for each in folder.iterdir()] == ["a.json"]


def test_what_is_left_is_the_plan_less_what_is_there(tmp_path: Path) -> None:
    config = asked(tmp_path)
    row = find_row(ROW)
    trainable = 29_440
    everything = room.left(config, row, trainable, tmp_path / "nowhere")
    images = 3 * 4 * 4096  # three points, four prompts, a block each
    checkpoints = 4 * trainable * (3 * 4 + 1)
    assert everything == checkpoints + images + round(3 * 4 * len(judge_names("tiny")) * 38.3) + 4 * 3600
    state = tmp_path / "checkpoints/update-000002/state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(bytes(100_000))
    assert room.left(config, row, trainable, tmp_path) == everything - 25 * 4096
    point = tmp_path / "images/geneval/update-000000"
    point.mkdir(parents=True)
    for there, spared in ((8, 8 * 4096), (20, images)):  # more than was planned spares nothing else
        for number in range(there):
            (point / f"{number}.png").touch()
        assert room.left(config, row, trainable, tmp_path) == everything - 25 * 4096 - spared


def test_the_plan_of_a_run_covers_what_the_run_wrote(undisturbed: Path, tmp_path: Path) -> None:
    wrote = space.used(undisturbed)
    assert wrote < room.left(asked(tmp_path), find_row(ROW), 29_440, tmp_path / "nowhere") < wrote + 2**20
