"""ImageReward: its two backends against the package's own score, order, batches and what is said of bad input."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_image_reward import (
    CHECKPOINT,
    RECORDED,
    TEXT_CONFIG,
    TINY,
    VOCABULARY,
    changed,
    entries,
    pictures,
    tiny,
    write,
)
from transformers import modeling_utils
from transformers.utils import logging

from gold_metrics import Entry, Picture, definition_hash, image_reward_blip, judge
from gold_metrics import image_reward_package as package
from gold_metrics.image_reward import (
    MAX_TOKENS,
    Backend,
    ImageReward,
    load_tokenizer,
    preprocess,
)
from gold_metrics.image_set import ImageSet
from gold_metrics.weights import WEIGHTS, WeightsError, present


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("image_reward"))


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Any:
    """The package's own model with its own preprocessing and its own `score`."""
    tokenizer = load_tokenizer(folder / VOCABULARY)
    model = package.create(TINY, folder / TEXT_CONFIG, tokenizer, torch.device("cpu"))
    model.load_state_dict(torch.load(folder / CHECKPOINT, weights_only=True), strict=False)
    model.preprocess = package.modules()["ImageReward.ImageReward"]._transform(TINY.size)
    return model.eval()


@pytest.fixture(scope="module", params=["package", "transformers"])
def scorer(folder: Path, request: pytest.FixtureRequest) -> ImageReward:
    return tiny(folder, request.param)


def values(scorer: ImageReward, images: Sequence[Picture], of: Sequence[Entry], batch: int) -> list[float]:
    starts = range(0, len(images), batch)
    return [score.value for at in starts for score in scorer.score(images[at : at + batch], of[at : at + batch])]


def test_a_picture_alone_has_the_bits_of_the_packages_own_score(folder: Path, upstream: Any) -> None:
    images, of = pictures(8), entries(8)
    theirs = [upstream.score(entry.prompt, Image.fromarray(image)) for image, entry in zip(images, of, strict=True)]
    assert values(tiny(folder, "package"), images, of, batch=1) == theirs
    assert np.ptp(theirs) > 0.5


def test_scores_are_those_of_the_unmodified_package_under_the_transformers_it_was_written_for(
    scorer: ImageReward,
) -> None:
    assert values(scorer, pictures(8), entries(8), batch=8) == pytest.approx(RECORDED, rel=1e-5)


def test_the_two_backends_agree(folder: Path) -> None:
    both = [
        values(tiny(folder, backend), pictures(16), entries(16), batch=16) for backend in ("package", "transformers")
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_a_score_does_not_depend_on_the_batch(scorer: ImageReward, batch: int) -> None:
    images, of = pictures(16), entries(16)
    alone = [scorer.score([image], [entry])[0].value for image, entry in zip(images, of, strict=True)]
    assert values(scorer, images, of, batch) == pytest.approx(alone, rel=1e-6, abs=1e-6)


def test_scores_permute_with_their_inputs(scorer: ImageReward) -> None:
    images, of = pictures(8), entries(8)
    order = np.random.default_rng(0).permutation(8)
    there = np.array(values(scorer, images, of, batch=8))
    moved = values(scorer, [images[i] for i in order], [of[i] for i in order], batch=8)
    assert moved == pytest.approx(there[order], rel=1e-6, abs=1e-6)
    assert np.diff(np.sort(there)).min() > 1e-3  # otherwise an exchange could hide


def test_a_score_depends_on_the_picture_and_on_its_own_prompt(scorer: ImageReward) -> None:
    images, of = pictures(2), entries(2)
    first = scorer.score(images, of)[0].value
    other_prompt = dataclasses.replace(of[0], prompt="three small squares")
    assert scorer.score([images[1], images[1]], of)[0].value != pytest.approx(first, abs=1e-3)
    assert scorer.score(images, [other_prompt, of[1]])[0].value != pytest.approx(first, abs=1e-3)


def test_a_prompt_is_cut_where_the_package_cuts_it(scorer: ImageReward) -> None:
    [image], [entry] = pictures(1), entries(1)
    kept = "red " * (MAX_TOKENS - 2)  # two places are the first and the last token's
    prompts = [kept, kept + "circle", kept[4:] + "circle"]
    full, cut, other = (scorer.score([image], [dataclasses.replace(entry, prompt=p)])[0].value for p in prompts)
    assert full == cut != other


@pytest.mark.parametrize("shape", [(224, 224), (300, 224), (64, 65), (500, 224), (223, 1000), (7, 5)])
def test_the_pixels_are_those_of_the_packages_transform_to_the_bit(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = package.modules()["ImageReward.ImageReward"]._transform(224)(Image.fromarray(image))
    np.testing.assert_array_equal(preprocess([image], 224)[0], theirs.numpy())


@pytest.mark.parametrize("backend", ["package", "transformers"])
def test_the_model_is_loaded_once_and_runs_once_per_batch(
    folder: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, batches = 0, []
    module = {"package": package, "transformers": image_reward_blip}[backend]
    build = module.build

    def counted(*arguments: Any) -> Any:
        nonlocal loads
        loads += 1
        reward = build(*arguments)
        return lambda pixels, *text: batches.append(len(pixels)) or reward(pixels, *text)  # type: ignore[func-returns-value]

    monkeypatch.setattr(module, "build", counted)
    scorer = tiny(folder, backend)
    assert scorer.definition and loads == 0  # a cached score needs no model
    image_set = ImageSet(tuple(pictures(20)), tuple(entries(20)), ("",) * 20)
    for _ in range(2):
        judge(image_set, [scorer], batch=16)
    assert (loads, batches) == (1, [16, 4, 16, 4])


def test_an_empty_prompt_is_missing_and_leaves_the_others(scorer: ImageReward) -> None:
    images, of = pictures(3), entries(3)
    there = [score.value for score in scorer.score([images[0], images[2]], [of[0], of[2]])]
    of[1] = dataclasses.replace(of[1], prompt="")
    scores = scorer.score(images, of)
    assert math.isnan(scores[1].value) and "no prompt" in scores[1].reason
    assert [scores[0].value, scores[2].value] == there


def test_a_reward_that_is_no_number_is_missing_with_its_reason(folder: Path, tmp_path: Path) -> None:
    def spoil(state: dict[str, torch.Tensor]) -> None:
        state["mlp.layers.7.bias"][:] = torch.inf

    [score] = changed(folder, tmp_path, spoil).score(pictures(1), entries(1))
    assert math.isnan(score.value) and "inf" in score.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mlp.layers.0.weight"), "mlp.layers.0.weight: wanted (1024, 32), found none"),
        (lambda state: state.update({"mlp.layers.0.bias": torch.zeros(5)}), "wanted (1024,), found (5,)"),
        (lambda state: state.update({"mlp.layers.9.bias": torch.zeros(5)}), "wanted none, found (5,)"),
        (lambda state: state.update(step=3), "wanted tensors by name"),
    ],
)
def test_weights_of_another_model_are_refused_in_one_line(
    folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(WeightsError) as error:
        changed(folder, tmp_path, change).score(pictures(1), entries(1))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_in_the_checkpoint_beside_the_model_changes_nothing(folder: Path, tmp_path: Path) -> None:
    def add(state: dict[str, torch.Tensor]) -> None:
        state["blip.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
        del state["blip.vision_proj.weight"]

    images, of = pictures(1), entries(1)
    assert changed(folder, tmp_path, add).score(images, of) == tiny(folder, "package").score(images, of)


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    scorer = changed(folder, tmp_path, lambda state: None)
    (tmp_path / CHECKPOINT).write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="wanted a file of torch weights") as error:
        scorer.score(pictures(1), entries(1))
    assert "\n" not in str(error.value)


def test_missing_files_and_unknown_backends_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"wants ImageReward\.pt in .*, found none"):
        ImageReward(folder=tmp_path)
    with pytest.raises(ValueError, match="should be package or transformers, found 'onnx'"):
        ImageReward("onnx", folder=tmp_path)  # type: ignore[arg-type]


def test_the_definition_tells_weights_and_backends_apart(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path, lambda state: state["mlp.layers.7.bias"].add_(1))
    scorers = [tiny(folder, "package"), tiny(folder, "transformers"), other]
    assert len({definition_hash(scorer.definition) for scorer in scorers}) == 3
    assert definition_hash(tiny(folder, "package").definition) == definition_hash(scorers[0].definition)


def test_the_package_leaves_warnings_the_log_and_imports_as_they_were() -> None:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_info()
    before = list(warnings.filters)
    package.modules.cache_clear()
    for name in [name for name in sys.modules if name.startswith("ImageReward")]:
        del sys.modules[name]
    try:
        package.modules()
        assert (list(warnings.filters), logging.get_verbosity()) == (before, logging.INFO)
        assert "ImageReward" not in sys.modules and not hasattr(modeling_utils, "find_pruneable_heads_and_indices")
    finally:
        logging.set_verbosity(verbosity)


@pytest.mark.weights
@pytest.mark.parametrize("backend", ["package", "transformers"])
def test_the_published_example_has_its_published_scores(backend: Backend) -> None:
    """THUDM/ImageReward README.md at 0105ff1, "Example Use", with its pictures of assets/images."""
    assets = Path(os.environ.get("IMAGE_REWARD_EXAMPLES", ""))
    if not os.environ.get("IMAGE_REWARD_EXAMPLES") or any(
        present(weight) is None for weight in WEIGHTS["image_reward"]
    ):
        pytest.skip("needs the weights and IMAGE_REWARD_EXAMPLES, the folder assets/images of THUDM/ImageReward")
    prompt = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    images = [np.asarray(Image.open(assets / f"{number}.webp").convert("RGB")) for number in range(1, 5)]
    scores = ImageReward(backend).score(images, [Entry("", "", "p", prompt, 0)] * 4)
    published = [0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492]
    assert [score.value for score in scores] == pytest.approx(published, abs=0.01)
