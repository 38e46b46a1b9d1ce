"""GenEval's judge, which puts detector, color reader and rules together, on tiny weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from geneval_models import SMALL_INPUT, pictures, save_clip, save_mask2former
from PIL import Image
from safetensors.torch import load_file, save_file

import gold_metrics
from gold_metrics import Entry, Picture, definition_hash, judge
from gold_metrics.geneval import GenEval
from gold_metrics.geneval_detector import Detector
from gold_metrics.geneval_rules import Thing, keep, overall
from gold_metrics.image_set import ImageSet
from gold_metrics.judging import mean


@pytest.fixture(scope="module")
def small_input() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_INPUT.items():
            patch.setattr(f"gold_metrics.geneval_detector.{name}", value)
        yield


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mask2former(tmp_path_factory.mktemp("mask2former"))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(detector_folder: Path, clip_folder: Path, small_input: None) -> GenEval:
    return GenEval(rule="partial", device="cpu", detector=detector_folder, clip=clip_folder)


def entries(count: int) -> list[Entry]:
    """Prompts of every task in turn, about the classes of the tiny detector."""
    kinds: list[dict[str, Any]] = [
        {"tag": "single_object", "include": [{"class": "person", "count": 1}]},
        {"tag": "colors", "include": [{"class": "airplane", "count": 1, "color": "red"}]},
        {"tag": "counting", "include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}]},
        {"tag": "two_object", "include": [{"class": "cup", "count": 1}, {"class": "person", "count": 1}]},
        {
            "tag": "color_attr",
            "include": [{"class": name, "count": 1, "color": "green"} for name in ("dining table", "computer mouse")],
        },
    ]
    return [Entry(f"{i}.png", f"{i:064x}", f"p{i % 5}", "", i, kinds[i % 5]) for i in range(count)]


def values(scorer: GenEval, images: Sequence[Picture], of: Sequence[Entry]) -> list[float]:
    return [score.value for score in scorer.score(images, of)]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_scores_do_not_depend_on_the_batch(scorer: GenEval, batch: int) -> None:
    images, of = pictures(10), entries(10)
    other = GenEval("partial", "cpu", scorer._folders[scorer_repo(0)], scorer._folders[scorer_repo(1)], batch)
    assert definition_hash(other.definition) == definition_hash(scorer.definition)
    assert values(other, images, of) == pytest.approx(values(scorer, images, of), abs=1e-6)


def scorer_repo(index: int) -> str:
    return ("facebook/mask2former-swin-small-coco-instance", "openai/clip-vit-large-patch14")[index]


def test_scores_permute_with_their_inputs_also_where_sizes_differ(scorer: GenEval) -> None:
    images, of = [*pictures(5), *pictures(5, side=40)], entries(10)
    order = np.random.default_rng(3).permutation(10)
    straight = scorer.score(images, of)
    permuted = scorer.score([images[i] for i in order], [of[i] for i in order])
    assert [score.value for score in permuted] == pytest.approx([straight[i].value for i in order], abs=1e-6)
    assert len({score.value for score in straight}) > 2, "the tiny detector should tell pictures apart"
    assert all(json.loads(score.reply) is not None for score in straight)


def test_models_are_loaded_once_and_run_once_per_batch(
    detector_folder: Path, clip_folder: Path, small_input: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import CLIPModel, Mask2FormerForUniversalSegmentation

    loads: list[str] = []
    for kind in (CLIPModel, Mask2FormerForUniversalSegmentation):

        def counted(folder: Path, _real: Any = kind.from_pretrained, _name: str = kind.__name__, **options: Any) -> Any:
            loads.append(_name)
            return _real(folder, **options)

        monkeypatch.setattr(kind, "from_pretrained", counted)
    fresh = GenEval("partial", "cpu", detector_folder, clip_folder, batch=4)
    forwards: list[int] = []
    fresh._detector.model.register_forward_pre_hook(
        lambda _, args, kwargs: forwards.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    crops: list[int] = []
    fresh._color_reader.model.vision_model.register_forward_hook(lambda *_: crops.append(1))
    texts: list[int] = []
    fresh._color_reader.model.text_model.register_forward_hook(lambda *_: texts.append(1))
    for _ in range(2):
        fresh.score(pictures(10), entries(10))
    assert 1 <= len(texts) == len(fresh._color_reader._of_class), "a class's colors are encoded once"
    assert forwards == [4, 4, 2] * 2 and crops == [1] * 2
    assert sorted(loads) == ["CLIPModel", "Mask2FormerForUniversalSegmentation"]


def test_the_judge_follows_the_rules_on_what_the_detector_found(scorer: GenEval) -> None:
    images, of = pictures(10), entries(10)
    for image, entry, score in zip(images, of, scorer.score(images, of), strict=True):
        target = entry.target or {}
        (found,) = scorer._detector([image])
        told = json.loads(score.reply)
        seen = keep(found, target["tag"])
        assert {name: len(some) for name, some in seen.items()} == {name: len(some) for name, some in told.items()}
        parts = []
        for wanted in target["include"]:
            count = len(told.get(wanted["class"], []))
            parts.append(1 - abs(count - wanted["count"]) / wanted["count"])
            if "color" in wanted:
                parts.append(float(count == 1 and told[wanted["class"]][0][5] == wanted["color"]))
        assert score.value == pytest.approx(sum(parts) / len(parts))


class Seer:
    """Finds what it was told lies in a picture; a color reader that says the color at the crop's center."""

    names = ("handbag", "scissors")
    rgb: ClassVar[dict[str, tuple[int, int, int]]] = {"pink": (255, 150, 200), "black": (0, 0, 0), "red": (255, 0, 0)}

    def __init__(self) -> None:
        self.of_picture: dict[bytes, dict[str, list[Thing]]] = {}

    def picture(self, *things: tuple[str, str, float]) -> Picture:
        """Things (class, color, confidence) painted from left to right."""
        image = np.full((40, 100, 3), 240, dtype=np.uint8)
        found: dict[str, list[Thing]] = {}
        for i, (name, color, score) in enumerate(things):
            mask = np.zeros((40, 100), dtype=bool)
            mask[10:30, 25 * i + 5 : 25 * i + 20] = True
            image[mask] = self.rgb[color]
            found.setdefault(name, []).append(Thing((25.0 * i + 5, 10.0, 25.0 * i + 20, 30.0), score, mask=mask))
        self.of_picture[image.tobytes()] = found
        return image

    def __call__(self, images: Sequence[Picture]) -> list[dict[str, list[Thing]]]:
        return [self.of_picture[image.tobytes()] for image in images]

    def colors(self, crops: Sequence[Image.Image], names: Sequence[str]) -> list[str]:
        named = {rgb: color for color, rgb in self.rgb.items()}
        return [named[crop.getpixel((crop.width // 2, crop.height // 2))] for crop in crops]  # type: ignore[index]


def test_each_color_goes_to_its_own_thing_in_its_own_picture(detector_folder: Path, clip_folder: Path) -> None:
    seer, judged = Seer(), GenEval("correct", "cpu", detector_folder, clip_folder)
    judged._detector, judged._color_reader = seer, seer.colors  # type: ignore[assignment]
    wanted = [{"class": "handbag", "count": 1, "color": "pink"}, {"class": "scissors", "count": 1, "color": "black"}]
    asked = Entry("", "", "p", "", 0, {"tag": "color_attr", "include": wanted})
    right = seer.picture(("handbag", "pink", 0.9), ("scissors", "black", 0.9))
    swapped = seer.picture(("handbag", "black", 0.9), ("scissors", "pink", 0.9))
    surer = seer.picture(("handbag", "red", 0.5), ("scissors", "black", 0.9), ("handbag", "pink", 0.8))
    less_sure = seer.picture(("scissors", "black", 0.9), ("handbag", "red", 0.8), ("handbag", "pink", 0.5))
    assert values(judged, [right, swapped, surer, less_sure], [asked] * 4) == [1, 0, 1, 0]


def test_faults_are_nan_with_their_reason_and_cost_no_other_score(scorer: GenEval) -> None:
    images, of = pictures(5), entries(5)
    alone = values(scorer, images, of)
    unicorn = {"tag": "single_object", "include": [{"class": "unicorn", "count": 1}]}
    bad = [None, unicorn, {"tag": "counting", "include": [{"class": "cup"}]}]
    faulty = [Entry("", "", "p", "", 0, target) for target in bad]
    scores = scorer.score([*images[:2], *pictures(3), *images[2:]], [*of[:2], *faulty, *of[2:]])
    assert [math.isnan(score.value) for score in scores] == [False] * 2 + [True] * 3 + [False] * 3
    assert "no target" in scores[2].reason and "knows no unicorn" in scores[3].reason and "count" in scores[4].reason
    kept = [score.value for score in (*scores[:2], *scores[5:])]
    assert kept == pytest.approx(alone, abs=1e-6)


def test_what_fits_is_genevals_target_and_no_other_sets(scorer: GenEval) -> None:
    tiny = Entry("", "", "p", "", 0, {"family": "objects", "objects": [], "relation": None, "category": "colors"})
    assert [scorer.fits(entry) for entry in (*entries(1), Entry("", "", "p", "", 0), tiny)] == [True, False, False]


def test_the_definition_names_rule_files_and_what_it_is_not(scorer: GenEval) -> None:
    definition = scorer.definition
    assert json.loads(json.dumps(definition)) == definition
    assert len(definition["checkpoints"]) == 4 and all(len(file["sha256"]) == 64 for file in definition["checkpoints"])
    assert definition["detector"]["antialias"] is False and "mmdet" in definition["published"]
    assert "HF detector" in scorer.head
    folders = {"detector": scorer._folders[scorer_repo(0)], "clip": scorer._folders[scorer_repo(1)]}
    rules = ("correct", "strict", "partial")
    hashes = {definition_hash(GenEval(rule, **folders).definition) for rule in rules}  # type: ignore[arg-type]
    assert len(hashes) == 3


def test_each_rule_stays_within_the_range_that_it_declares(scorer: GenEval) -> None:
    folders = {"detector": scorer._folders[scorer_repo(0)], "clip": scorer._folders[scorer_repo(1)]}
    for rule in ("correct", "strict", "partial"):
        judged = GenEval(rule, "cpu", **folders)  # type: ignore[arg-type]
        assert all(judged.range[0] <= value <= judged.range[1] for value in values(judged, pictures(10), entries(10)))


def test_an_image_set_is_judged_into_a_frame_that_averages_by_task(scorer: GenEval) -> None:
    of = entries(8)  # two of some tasks, one of others
    frame = judge(ImageSet(tuple(pictures(8)), tuple(of), ("",) * 8), [scorer])
    assert frame["score"].tolist() == pytest.approx(values(scorer, pictures(8), of), abs=1e-6)
    frame["score"] = np.arange(8.0) ** 2  # numbers that tell the two means apart
    tags = [(entry.target or {})["tag"] for entry in of]
    assert mean(frame) == pytest.approx(overall(frame["score"].tolist(), tags))
    assert mean(frame) != pytest.approx(frame["score"].mean())


def test_a_detector_that_lacks_weights_is_refused_and_never_random(tmp_path: Path) -> None:
    folder = save_mask2former(tmp_path / "whole")
    state = load_file(folder / "model.safetensors")
    for part in ("class_predictor", "encoder.embeddings"):
        save_file({k: v for k, v in state.items() if part not in k}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(gold_metrics.weights.WeightsError, match=r"Mask2Former.* lacks \d+ of its weights"):
            Detector(folder, "cpu")
    save_file({k: v for k, v in state.items() if "criterion" not in k}, folder / "model.safetensors", {"format": "pt"})
    Detector(folder, "cpu")


def test_a_wrong_rule_and_missing_weights_are_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rule should be one of correct, strict, partial, found 'loose'"):
        gold_metrics.load("geneval", rule="loose")
    monkeypatch.setattr("gold_metrics.weights.present", lambda weight: None)
    with pytest.raises(gold_metrics.weights.WeightsError, match="weights fetch geneval"):
        gold_metrics.load("geneval")


@pytest.mark.weights
def test_published_weights_find_a_plain_red_stop_sign() -> None:
    # A drawn octagon is the plainest thing that COCO has a class for.
    try:
        judged = gold_metrics.load("geneval")
    except gold_metrics.weights.WeightsError as error:
        pytest.skip(str(error))
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    inside = (abs(x) < 0.6) & (abs(y) < 0.6) & (abs(x) + abs(y) < 0.85)
    picture = np.where(inside[..., None], (200, 16, 32), (150, 190, 230)).astype(np.uint8)
    target = {"tag": "colors", "include": [{"class": "stop sign", "count": 1, "color": "red"}]}
    assert judged.score([picture], [Entry("", "", "p", "", 0, target)])[0].value == 1
