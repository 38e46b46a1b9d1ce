"""PickScore: the numbers of the published code, undivided, and what breaks them on newer libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import torch
from PIL import Image
from tiny_clip import LONG, PROMPTS, SIZES, entry, picture

from gold_metrics import definition_hash, load
from gold_metrics.clip_models import pil_pixels, pil_processor
from gold_metrics.pickscore import MODEL, PROCESSOR, PickScore
from gold_metrics.preprocess import normalize, unit
from gold_metrics.weights import WeightsError

UPSTREAM: dict[str, float] = tiny_clip.RECORDED["pickscore"]["values"]

# flow_grpo divides by it (pickscore_scorer.py:49 at 879042c).
DIVISOR = 26

# exp(logit_scale) of the tiny weights: a score is this times a cosine, and cosines are held to 1e-6.
SCALE = math.exp(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write_folder(tmp_path_factory.mktemp("pickscore") / "model")


@pytest.mark.parametrize(("kind", "prompt"), zip(SIZES, PROMPTS + PROMPTS, strict=False))
def test_scores_are_the_published_ones_times_26(folder: Path, kind: str, prompt: str) -> None:
    (score,) = PickScore("cpu", folder).score([picture(kind)], [entry(prompt)])
    assert score.value == pytest.approx(UPSTREAM[kind] * DIVISOR, abs=1e-6 * SCALE)


def test_a_long_prompt_is_cut_where_the_published_code_cuts_it(folder: Path) -> None:
    (score,) = PickScore("cpu", folder).score([picture("square")], [entry(LONG)])
    assert score.value == pytest.approx(UPSTREAM["long"] * DIVISOR, abs=1e-6 * SCALE)


def test_a_score_is_the_scaled_cosine_of_the_two_towers(folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder)
    tokens = CLIPTokenizer.from_pretrained(folder)([PROMPTS[0]], return_tensors="pt")  # not padded
    pixels = normalize(unit(picture("square")))[None]  # of the model's own size, and needs nothing else
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)[0].double().numpy()
        said = model.text_projection(model.text_model(**tokens).pooler_output)[0].double().numpy()
    cosine = seen @ said / np.linalg.norm(seen) / np.linalg.norm(said)
    (score,) = PickScore("cpu", folder).score([picture("square")], [entry(PROMPTS[0])])
    assert score.value / SCALE == pytest.approx(cosine, abs=1e-6)


def test_a_picture_of_three_rows_is_not_taken_for_three_channels(folder: Path) -> None:
    """An array of this shape is ambiguous to transformers, which warns and takes the rows for channels."""
    rows = picture("wide")[:3]
    wide = tiny_clip.SIDE * rows.shape[1] // 3
    left = (wide - tiny_clip.SIDE) // 2
    resized = np.asarray(Image.fromarray(rows).resize((wide, tiny_clip.SIDE), Image.Resampling.BICUBIC))
    pixels = pil_pixels(pil_processor(folder), [rows])[0]
    wanted = normalize(unit(resized[:, left : left + tiny_clip.SIDE]))
    assert torch.allclose(pixels, wanted, atol=1e-6)


def test_a_picture_without_a_prompt_is_missing(folder: Path) -> None:
    scores = PickScore("cpu", folder).score([picture("wide")] * 2, [entry(""), entry("a cat")])
    assert [math.isnan(score.value) for score in scores] == [True, False]
    assert "no prompt" in scores[0].reason


def test_preprocessor_and_model_may_come_from_two_folders(folder: Path, tmp_path: Path) -> None:
    for name in ("preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 0}))
    ask = [picture("tall")], [entry("a cat")]
    nearest, bicubic = PickScore("cpu", folder, tmp_path), PickScore("cpu", folder)
    assert abs(nearest.score(*ask)[0].value - bicubic.score(*ask)[0].value) > 1e-3
    assert definition_hash(nearest.definition) != definition_hash(bicubic.definition)
    assert {each["repo"] for each in nearest.definition["files"]} == {MODEL, PROCESSOR}


def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    save_file({n: v for n, v in state.items() if n != "visual_projection.weight"}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lacks 1 of its weights, visual_projection\.weight"):
        PickScore("cpu", tmp_path).score([picture("wide")], [entry("a cat")])
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="wanted a CLIPModel") as caught:
        PickScore("cpu", tmp_path).score([picture("wide")], [entry("a cat")])
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_files_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"pickscore wants config\.json"):
        load("pickscore", checkpoint=tmp_path)


def test_half_precision_weights_are_computed_in_full(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    halves = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    scorer = PickScore("cpu", tmp_path)
    scorer.score([picture("wide")], [entry("a cat")])
    assert {value.dtype for value in scorer._loaded[0].parameters()} == {torch.float32}


@pytest.mark.weights
def test_published_weights_score_on_the_published_scale() -> None:
    try:
        scorer: Any = load("pickscore")
    except WeightsError as error:
        pytest.skip(f"3.9 GB of published weights: {error}")
    # Table 1's pictures have about 21.5; one without any content lies lower.
    assert 10 < scorer.score([picture("wide")], [entry("a cat on a table")])[0].value < 25
