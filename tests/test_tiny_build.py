"""The build of the little world's weights: stages are done once, weights are put in place whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_tiny_card import numbers

from bench.tiny import build, card
from bench.tiny.grammar import held_out


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder in which every stage is done."""
    folder = tmp_path / "work"
    for name in build.BUILDERS:
        (folder / name / "transformer").mkdir(parents=True)
        (folder / name / "transformer" / "model.safetensors").write_bytes(b"w" * 2_000_000)
    (folder / build.PREFERENCE).write_bytes(b"p" * 300_000)
    (folder / "numbers.json").write_text(json.dumps(numbers()))
    return folder


def test_assembling_puts_weights_and_their_card_in_place(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights"
    (out / "sd3" / "old").mkdir(parents=True)
    build.assemble(work, out)
    assert sorted(path.name for path in out.iterdir()) == ["CARD.md", "flux", build.PREFERENCE, "sd3"]
    assert [path.name for path in (out / "sd3").iterdir()] == ["transformer"]
    assert "Together 4.30 MB" in (out / "CARD.md").read_text()


def test_assembling_again_changes_nothing(work: Path, tmp_path: Path) -> None:
    cards = []
    for _ in range(2):
        build.assemble(work, tmp_path / "weights")
        cards.append((tmp_path / "weights" / "CARD.md").read_text())
    assert cards[0] == cards[1]


def test_an_interrupted_copy_leaves_the_old_weights(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "sd3"
    destination.mkdir()
    (destination / "old").touch()

    def full(source: Path, partial: Path) -> None:
        partial.mkdir()
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copytree", full)
        with pytest.raises(OSError, match="no space"):
            build.install(work / "sd3", destination)
    assert (destination / "old").exists()
    build.install(work / "sd3", destination)
    assert not (destination / "old").exists()


def test_a_finished_stage_is_skipped_and_an_interrupted_one_adds_up_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted_once(work: Path) -> None:
        calls.append(work)
        if len(calls) == 1:
            raise KeyboardInterrupt
        (work / "done").touch()

    monkeypatch.setitem(build.STAGES, "sd3", (interrupted_once, "done"))
    times = iter([10.0, 13.0, 100.0, 104.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with pytest.raises(KeyboardInterrupt):
        build.run_stage("sd3", tmp_path)
    build.run_stage("sd3", tmp_path)
    build.run_stage("sd3", tmp_path)
    assert len(calls) == 2
    assert build.seconds(tmp_path, "sd3") == 7
    assert build.seconds(tmp_path, "flux") is None


def test_every_stage_runs_once_and_the_oracles_learn_the_renderer_before_they_teach() -> None:
    order = [name for side_by_side in build.ORDER for name in side_by_side]
    assert sorted(order) == sorted(build.STAGES)
    assert order.index("statistics") < order.index("preference") < order.index("measures")


def test_samples_for_the_preference_model_are_of_training_prompts_and_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbered(policy: int, asked: list[card.Prompt], seed: int, per_prompt: int) -> np.ndarray:
        """A picture's value tells its policy, its round and its prompt."""
        rows = [[100 * policy + 10 * turn + i for i in range(len(asked))] for turn in range(per_prompt)]
        return np.concatenate(rows).astype(np.uint8)

    monkeypatch.setattr(card, "sampled", numbered)
    groups = build.candidates({"sd3": 0, "flux": 1}, count=5, seed=3)  # type: ignore[dict-item]
    assert len({group.prompt for group in groups}) == 5
    assert not any(held_out(group.prompt, group.target) for group in groups)
    assert groups[2].pictures.tolist() == [2, 12, 22, 32, 102, 112, 122, 132]
