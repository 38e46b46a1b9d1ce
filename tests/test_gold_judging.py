"""Judging an image set: order, missing images, the score file and the command."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
from gold_pictures import paint

import gold_metrics
from bench.tiny import grammar
from gold_metrics import Entry, Picture, Score, definition_hash, judge, missing, write_scores
from gold_metrics.__main__ import main
from gold_metrics.image_set import ImageSet, read, write
from gold_metrics.judging import BATCH, COLUMNS, mean
from gold_metrics.scorer import versions
from gold_metrics.weights import WeightsError


class Brightness:
    """The mean of the pixels: enough to see who was given which score."""

    name: ClassVar[str] = "brightness"
    head: ClassVar[str] = "Brightness"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 255.0)
    per: ClassVar[Literal["image", "set"]] = "image"
    definition: ClassVar[dict[str, Any]] = {"scorer": "brightness"}

    def fits(self, entry: Entry) -> bool:
        return entry.prompt != "of another kind"

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        return [Score(float(image.mean())) for image in images]


def plain(count: int, broken: Sequence[int] = ()) -> ImageSet:
    """Picture i is of brightness i % 256; three prompts in turn."""
    images = [None if i in broken else np.full((4, 4, 3), i % 256, dtype=np.uint8) for i in range(count)]
    entries = [Entry(f"{i}.png", f"{i:064x}", f"p{i % 3}", "", i) for i in range(count)]
    return ImageSet(tuple(images), tuple(entries), tuple("gone" if i in broken else "" for i in range(count)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prompts = grammar.all_prompts()[:3]
    made = [(prompt, target, seed) for prompt, target in prompts for seed in range(4)]
    entries = [Entry(f"{p.replace(' ', '_')}/{s}.png", "", p, p, s, t) for p, t, s in made]
    write(tmp_path / "set", [paint(target, seed) for _, target, seed in made], entries)
    return tmp_path / "set"


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_scores_come_in_the_order_of_the_images_whatever_the_batches(count: int) -> None:
    frame = judge(plain(count), [Brightness()])
    assert frame["score"].tolist() == [i % 256 for i in range(count)]
    assert frame["seed"].tolist() == list(range(count))
    assert tuple(frame.columns) == COLUMNS


def test_a_broken_image_is_nan_with_its_fault_and_leaves_the_others() -> None:
    frame = judge(plain(7, broken=[0, 3]), [Brightness()])
    assert frame["score"].isna().tolist() == [True, False, False, True, False, False, False]
    assert frame["score"].dropna().tolist() == [1, 2, 4, 5, 6]
    assert frame["reason"].tolist() == ["gone", "", "", "gone", "", "", ""]


@pytest.mark.parametrize("per", ["image", "set"])
def test_what_does_not_fit_has_no_row_and_moves_no_other(per: Literal["image", "set"]) -> None:
    class Counted(Brightness):
        def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
            return super().score(images, entries)[: 1 if self.per == "set" else None]

    scorer = Counted()
    scorer.per = per  # type: ignore[misc]
    there = plain(7, broken=[0, 3])
    entries = tuple(dataclasses.replace(e, prompt="of another kind" if e.seed % 3 == 0 else "p") for e in there.entries)
    frame = judge(ImageSet(there.images, entries, there.faults), [scorer])
    assert frame["prompt_id"].tolist() == (["p1", "p2"] if per == "set" else ["p1", "p2"] * 2)
    assert frame["score"].tolist() == [1, 2] if per == "set" else [1, 2, 4, 5]


def test_a_set_of_another_kind_is_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry("a.png", "", "p", "two cats", 0, {"tag": "counting", "include": []})
    write(tmp_path / "set", [np.zeros((32, 32, 3), dtype=np.uint8)], [entry])
    arguments = [str(tmp_path / "set"), "--scorers", ",".join(gold_metrics.ORACLES)]
    assert main([*arguments, "--out", str(tmp_path / "s.parquet")]) == 2
    error = capsys.readouterr().err
    assert all(f"{name} left out" in error for name in gold_metrics.ORACLES)


def test_a_forgotten_target_is_counted_as_missing_and_not_left_out() -> None:
    frame = judge(plain(6), [gold_metrics.load("correctness"), gold_metrics.load("variety")])
    assert frame["score"].isna().all() and len(frame) == 6 + 3
    assert frame["reason"].str.contains("target").all()


def test_a_prompt_without_any_readable_image_is_counted_as_missing(folder: Path) -> None:
    for path in (folder / "a_red_circle").iterdir():
        path.unlink()
    frame = judge(read(folder), [gold_metrics.load("variety")])
    assert frame["prompt_id"].tolist() == ["a red circle", "a red square", "a red triangle"]
    assert frame["score"].isna().tolist() == [True, False, False]
    assert "a_red_circle/0.png" in frame["reason"][0]


def test_progress_counts_each_image_once_per_scorer() -> None:
    done: list[int] = []
    judge(plain(BATCH + 5), [Brightness(), gold_metrics.load("variety")], done.append)
    assert sum(done) == 2 * (BATCH + 5)


def test_a_scorer_that_loses_a_score_is_stopped() -> None:
    class Forgetful(Brightness):
        def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
            return super().score(images, entries)[1:]

    with pytest.raises(RuntimeError, match="wanted 5 scores"):
        judge(plain(5), [Forgetful()])


@pytest.mark.parametrize("name", gold_metrics.ORACLES)
def test_scores_do_not_depend_on_the_order_of_the_images(folder: Path, name: str) -> None:
    there = read(folder)
    order = np.random.default_rng(0).permutation(len(there.images))
    parts = (tuple(part[i] for i in order) for part in (there.images, there.entries, there.faults))
    keys = ["prompt_id", "seed"]
    frames = [judge(each, [gold_metrics.load(name)]).sort_values(keys) for each in (there, ImageSet(*parts))]
    assert frames[0]["score"].tolist() == pytest.approx(frames[1]["score"].tolist(), abs=1e-12)


@pytest.mark.parametrize("name", gold_metrics.ORACLES)
def test_an_oracle_scores_within_the_range_that_it_declares(name: str) -> None:
    oracle = gold_metrics.load(name)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(20)]
    target = dict(grammar.all_prompts())["three red circles"]
    scores = oracle.score(noise, [Entry("", "", "p", "", 0, target)] * 20)
    assert all(oracle.range[0] <= score.value <= oracle.range[1] for score in scores)
    assert (oracle.name, oracle.per) == (name, "set" if name == "variety" else "image")


def test_a_definition_hash_changes_with_its_content_and_not_with_its_order() -> None:
    assert definition_hash({"a": 1, "b": [2]}) == definition_hash({"b": [2], "a": 1})
    assert definition_hash({"a": 1}) != definition_hash({"a": 2})
    hashes = {definition_hash(gold_metrics.load(name).definition) for name in gold_metrics.ORACLES}
    assert len(hashes) == len(gold_metrics.ORACLES)


def test_a_wrong_scorer_name_suggests_the_near_one() -> None:
    with pytest.raises(KeyError, match="did you mean correctness"):
        gold_metrics.load("correctnes")


def test_a_failed_write_keeps_the_old_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(judge(plain(3), [Brightness()]), path)
    before = path.read_bytes()

    def full(self: pd.DataFrame, making: Path, index: bool) -> None:
        making.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="no space"):
        write_scores(judge(plain(4), [Brightness()]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_writes_every_score_and_ends_with_success(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--out", str(tmp_path / "new" / "scores.parquet")]) == 0
    frame = pd.read_parquet(tmp_path / "new" / "scores.parquet")
    assert frame.groupby("scorer")["score"].count().to_dict() == {
        "correctness": 12,
        "cleanliness": 12,
        "variety": 3,
    }
    assert frame.loc[frame["scorer"] == "correctness", "score"].tolist() == [1.0] * 12
    assert "correctness" in capsys.readouterr().out


def test_the_command_names_a_missing_image_and_judges_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a_red_circle" / "2.png").unlink()
    assert main([str(folder), "--out", str(tmp_path / "s.parquet"), "--scorers", "correctness"]) == 1
    frame = pd.read_parquet(tmp_path / "s.parquet")
    assert (frame["score"].count(), frame["score"].isna().sum()) == (11, 1)
    assert "a_red_circle/2.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--out", "s.parquet"), "nowhere: no such folder"),
        (("set", "--out", "s.parquet", "--scorers", "varity"), "did you mean variety"),
        (("set", "--out", "."), "is a folder"),
        (("set", "--out", "set/manifest.jsonl/s.parquet"), "manifest.jsonl"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_that_is_not_there_is_told_before_what_else_is_lacking(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nowhere"])
    error = capsys.readouterr().err
    assert error.startswith("gold_metrics: there is no folder 'nowhere' here") and error.count("\n") == 1


def test_judging_imports_neither_torch_nor_the_generator() -> None:
    code = (
        "import sys, gold_metrics; [gold_metrics.load(n) for n in gold_metrics.ORACLES];"
        "print([m for m in ('torch', 'pandas', 'bench', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


class Counting(Brightness):
    """Counts the images that it was given; the brightness 3 cannot be judged."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        self.asked.append(len(images))
        return [missing("three") if image.mean() == 3 else Score(float(image.mean())) for image in images]


def test_a_second_call_asks_only_for_what_could_not_be_had(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    frames = [judge(plain(10), [scorer], cache=tmp_path) for scorer in (first, second)]
    assert (first.asked, second.asked) == ([10], [1])
    pd.testing.assert_frame_equal(*frames)


def test_an_interrupted_call_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupted(Counting):
        def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
            if self.asked:
                raise KeyboardInterrupt
            return super().score(images, entries)

    with pytest.raises(KeyboardInterrupt):
        judge(plain(10), [Interrupted()], batch=4, cache=tmp_path)
    scorer = Counting()
    assert judge(plain(10), [scorer], batch=4, cache=tmp_path)["score"].count() == 9
    assert scorer.asked == [4, 3]  # six were left, and the fourth picture again


def test_another_definition_prompt_or_target_is_another_score(tmp_path: Path) -> None:
    class Newer(Counting):
        definition: ClassVar[dict[str, Any]] = {"scorer": "brightness", "version": 2}

    judge(plain(4), [Counting()], cache=tmp_path)
    there = plain(4)
    reworded = tuple(dataclasses.replace(entry, prompt="another") for entry in there.entries)
    meaning = tuple(dataclasses.replace(entry, target={"family": "text"}) for entry in there.entries)
    for scorer, entries in ((Newer(), there.entries), (Counting(), reworded), (Counting(), meaning)):
        judge(ImageSet(there.images, entries, there.faults), [scorer], cache=tmp_path)
        assert scorer.asked == [4]


def test_a_torn_line_of_the_cache_costs_that_score_alone(tmp_path: Path) -> None:
    judge(plain(10), [Counting()], cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    again, last = Counting(), Counting()
    judge(plain(10), [again], cache=tmp_path)
    judge(plain(10), [last], cache=tmp_path)
    assert (again.asked, last.asked) == ([2], [1])


def test_one_picture_with_one_prompt_is_scored_once() -> None:
    there = plain(3)
    twice = ImageSet(there.images * 2, there.entries * 2, there.faults * 2)
    scorer = Counting()
    assert len(judge(twice, [scorer])) == 6
    assert scorer.asked == [3]


def test_a_row_names_the_run_and_the_step_that_made_its_image() -> None:
    frame = judge(plain(2), [Brightness()], run="sd3_base-seed0", step=20)
    assert frame[["run", "step"]].drop_duplicates().values.tolist() == [["sd3_base-seed0", 20]]


def test_a_definition_names_the_release_and_not_what_it_was_built_for() -> None:
    assert "+" not in versions("torch")["torch"] and versions("numpy") == {"numpy": np.__version__}


class InParts(Brightness):
    """A third of the pictures are of the part "few"."""

    def part(self, entry: Entry) -> str:
        return "few" if entry.prompt_id == "p0" else "many"


def test_the_mean_of_a_scorer_in_parts_weighs_the_parts_and_not_the_images() -> None:
    frame = judge(plain(9), [InParts(), Brightness()])
    few, many = np.mean([0, 3, 6]), np.mean([1, 2, 4, 5, 7, 8])
    assert mean(frame[:9]) == pytest.approx((few + many) / 2)
    assert mean(frame[9:]) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_flight": "many"}, "unified_reward: in_flight should be of type int, found 'many'"),
        ({"timeout": "long"}, "unified_reward: timeout should be of type float, found 'long'"),
        ({"colour": "red"}, "unified_reward has no option 'colour'; it has base_url, model"),
    ],
)
def test_options_that_a_scorer_cannot_take_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gold_metrics.load("unified_reward", **options)


def test_texts_become_what_the_scorer_asks_for_and_names_stay_texts() -> None:
    scorer = gold_metrics.load("unified_reward", in_flight="3", timeout="2.5", revision="012345")
    assert scorer.definition["model"]["revision"] == "012345"
    with pytest.raises(WeightsError, match="/nowhere"):
        gold_metrics.load("hpsv2", checkpoint="/nowhere")
