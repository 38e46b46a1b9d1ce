"""What a disk or a kill spoils is noticed by its hash and named; the run goes on from the last good state."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_runs import settings

from bench import checkpoint, epoch, running, seals, train
from bench.checkpoint import CheckpointError
from bench.config import Config
from bench.preemption import Preempted, Stop
from bench.ranks import Ranks
from bench.record import METRIC_FILES, LedgerError, clear, forced, write_json
from bench.seals import DamageError
from bench.session import Session

ROW = "sd3_flow_text"
SAME = (*METRIC_FILES, "lora/pytorch_lora_weights.safetensors")
EPOCHS = 3


def asked(folder: Path) -> Config:
    return settings(ROW, folder, f"updates={2 * EPOCHS}", f"runs={folder}/runs")


def run_folder(folder: Path) -> Path:
    return folder / "runs" / ROW / "seed0"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.run(asked(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped in its third epoch: checkpoints of updates 2 and 4."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(epoch, "run", stop_in_epoch(2))
        train.run(asked(folder))
    return folder


def stop_in_epoch(number: int) -> Callable[..., None]:
    real = epoch.run

    def run(session: Session, *rest: object) -> None:
        if session.state.epoch == number:
            session.record.append("metrics", {"update": session.state.update + 1, "epoch": number})
            raise KeyboardInterrupt
        real(session, *rest)  # type: ignore[arg-type]

    return run


@pytest.fixture
def spoiled(interrupted: Path, tmp_path: Path) -> Path:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    return run_folder(tmp_path)


def flip(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [flip, tear])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    spoiled: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    damage(spoiled / "checkpoints/update-000004" / name)
    found = checkpoint.newest(spoiled / "checkpoints", [])
    assert found and found.name == "update-000002"
    said = capsys.readouterr().err
    assert f"{spoiled}/checkpoints/update-000004 cannot be used" in said and "going on from update-000002" in said
    if (name, damage) == ("state.safetensors", flip):
        train.run(asked(spoiled.parents[2]))
        for each in SAME:
            assert (spoiled / each).read_bytes() == (undisturbed / each).read_bytes(), each


def test_a_position_that_was_changed_is_noticed_although_the_manifest_can_be_read(spoiled: Path) -> None:
    manifest = spoiled / "checkpoints/update-000004/manifest.json"
    manifest.write_text(manifest.read_text().replace('"update": 4', '"update": 3'))
    assert json.loads(manifest.read_text())["update"] == 3
    assert checkpoint.newest(spoiled / "checkpoints", []) == spoiled / "checkpoints/update-000002"


@pytest.mark.parametrize("name", METRIC_FILES)
def test_a_damaged_record_leads_back_to_the_checkpoint_before_the_damage(
    spoiled: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = json.loads((spoiled / "checkpoints/update-000002/manifest.json").read_text())["record"][name]["bytes"]
    flip(spoiled / name, before + 30)
    assert checkpoint.newest(spoiled / "checkpoints", []) == spoiled / "checkpoints/update-000002"
    assert f"{spoiled / name} is not what was written" in capsys.readouterr().err
    if name == "metrics.jsonl":
        train.run(asked(spoiled.parents[2]))
        assert (spoiled / name).read_bytes() == (undisturbed / name).read_bytes()


def test_without_a_good_checkpoint_the_run_stops_and_keeps_what_there_is(spoiled: Path) -> None:
    for path in checkpoint.found(spoiled / "checkpoints"):
        flip(path / "state.safetensors")
    kept = (spoiled / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"update-000004.*update-000002.*No good one is left; FORCE=1"):
        train.run(asked(spoiled.parents[2]))
    assert (spoiled / "metrics.jsonl").read_bytes() == kept
    assert len(checkpoint.found(spoiled / "checkpoints")) == 2


def test_a_checkpoint_of_another_model_is_refused_and_not_passed_over(spoiled: Path) -> None:
    with pytest.raises(CheckpointError, match=r"update-000004 cannot be used: it belongs to another model"):
        checkpoint.newest(spoiled / "checkpoints", ["no such layer"])
    assert len(checkpoint.found(spoiled / "checkpoints")) == 2


class Told(Stop):
    """Is told to stop when it is asked for the `at`-th time."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def check(self, ranks: Ranks) -> None:
        self.left -= 1
        self.by = "" if self.left else "SIGUSR1"
        super().check(ranks)


# Where one run is stopped again and again: what its process had asked by then, the update saved, evaluations finished.
STOPS = {
    "evaluation": (1, 0, 0),
    "begin": (2, 0, 1),
    "rollout": (2, 0, 1),
    "second evaluation": (3, 2, 1),
    "second rollout": (3, 2, 2),
}


def test_a_run_asked_to_stop_saves_is_marked_and_ends_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path) -> None:
    for place, (at, saved, evaluated) in STOPS.items():
        with pytest.raises(Preempted):
            train.run(asked(tmp_path), Told(at))
        status = json.loads((run_folder(tmp_path) / "status.json").read_text())
        assert status == {"state": "preempted", "update": saved, "of": 2 * EPOCHS, "error": "Preempted: SIGUSR1"}, place
        assert checkpoint.found(run_folder(tmp_path) / "checkpoints")[-1].name == f"update-{saved:06d}", place
        assert len([*run_folder(tmp_path).glob("scores/*.parquet")]) == evaluated, place
    train.run(asked(tmp_path))
    for each in SAME:
        assert (run_folder(tmp_path) / each).read_bytes() == (undisturbed / each).read_bytes(), each


def test_a_damaged_adapter_is_named_and_made_again_from_the_last_checkpoint(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed.parents[2], tmp_path, dirs_exist_ok=True)
    flip(run_folder(tmp_path) / SAME[-1], 400)
    before = (undisturbed / "times.jsonl").read_bytes()
    train.run(asked(tmp_path))
    assert f"{SAME[-1]} is not what was written" in capsys.readouterr().err
    for each in SAME:
        assert (run_folder(tmp_path) / each).read_bytes() == (undisturbed / each).read_bytes(), each
    assert (run_folder(tmp_path) / "times.jsonl").read_bytes() == before  # nothing was trained or judged again


@pytest.mark.parametrize("place", ["image", "manifest", "scores"])
def test_a_damaged_evaluation_of_the_newest_checkpoint_is_made_again(
    spoiled: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    images = spoiled / "images/update-000004"
    files = {"image": min(images.glob("*.png")), "manifest": images / "manifest.jsonl"}
    tear(files.get(place, spoiled / "scores/update-000004.parquet"))
    train.run(asked(spoiled.parents[2]))
    assert "the evaluation at update 4 is made again" in capsys.readouterr().err
    for each in (*SAME, *(path.relative_to(spoiled) for path in [*images.iterdir(), *spoiled.glob("scores/*")])):
        assert (spoiled / each).read_bytes() == (undisturbed / each).read_bytes(), each


def test_updates_without_a_checkpoint_are_not_thrown_away(spoiled: Path) -> None:
    kept = (spoiled / "metrics.jsonl").read_bytes()
    shutil.rmtree(spoiled / "checkpoints")
    with pytest.raises(CheckpointError, match=r"diagnostics\.jsonl has updates, and .*checkpoints no checkpoint"):
        train.run(asked(spoiled.parents[2]))
    assert (spoiled / "metrics.jsonl").read_bytes() == kept


def test_a_run_is_begun_anew_once_for_each_word(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.parents[2], tmp_path, dirs_exist_ok=True)
    folder = run_folder(tmp_path)
    assert [forced(word, folder) for word in ("0", "", "False", "1", "True", "job-7")] == [False] * 3 + [True] * 3
    info = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", info | {"config": info["config"] | {"force": "job-7"}})
    assert [forced(word, folder) for word in ("job-7", "job-8", "1")] == [False, True, True]


def test_a_run_that_is_forgotten_half_way_is_neither_finished_nor_another(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for deletions in range(12):
        folder = tmp_path / str(deletions)
        shutil.copytree(undisturbed, folder)
        left = [deletions]
        with monkeypatch.context() as patch:
            for owner, name in ((shutil, "rmtree"), (Path, "unlink")):
                patch.setattr(owner, name, stops_after(left, getattr(owner, name)))
            with contextlib.suppress(KeyboardInterrupt):
                clear(folder)
        there = {path.name for path in folder.iterdir()}
        if deletions:
            assert "status.json" not in there
        assert "run.json" in there or not there - {".lock"}


def stops_after(left: list[int], work: Callable[..., None]) -> Callable[..., None]:
    def stopping(*arguments: object, **options: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        work(*arguments, **options)

    return stopping


@pytest.mark.parametrize("name", ["run.json", *METRIC_FILES])
def test_damage_to_a_finished_run_is_named_instead_of_passing_for_finished(
    undisturbed: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(undisturbed.parents[2], tmp_path, dirs_exist_ok=True)
    flip(run_folder(tmp_path) / name, 40)
    with pytest.raises(LedgerError, match=rf"{name} is not what was written: its sha256 differs; run the row again"):
        running.check_seals(run_folder(tmp_path))


def test_a_damaged_evaluation_is_named_and_holds_up_no_training(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(spoiled / "scores/update-000002.parquet", 40)
    tear(spoiled / "images/update-000002/manifest.jsonl")
    running.check_seals(spoiled)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("is not what was written" in line for line in said)


def test_a_file_of_hashes_notices_damage_to_itself(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    seals.seal(tmp_path, tmp_path / "a.json")
    seals.check(tmp_path, tmp_path / "a.json")
    hashes = tmp_path / seals.FILES
    hashes.write_text(hashes.read_text().replace('"bytes": 1', '"bytes": 2'))
    with pytest.raises(DamageError, match=r"files\.json is damaged"):
        seals.check(tmp_path, tmp_path / "a.json")


def test_a_record_may_grow_behind_its_seal_and_another_file_may_not(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet"):
        (tmp_path / name).write_text("one\n")
        seals.seal(tmp_path, tmp_path / name)
        (tmp_path / name).write_text("one\ntwo\n")
    assert list(seals.damaged(tmp_path)) == ["a.parquet"]


def test_a_replacement_that_is_interrupted_leaves_a_sealed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    seals.seal(tmp_path, path)
    real, steps = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        steps.append(target)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    for stop in (1, 2, 3):
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            seals.replace(tmp_path, path, write_new)
        assert seals.damaged(tmp_path) == {}, stop
    assert path.read_text() == "new"


def write_new(path: Path) -> None:
    path.write_text("new")
