"""HPSv2: its own numbers, on either backend, for every kind of picture."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import torch
from PIL import Image
from tiny_clip import LONG, PROMPTS, SHAPE, SIDE, SIZES, entry, picture

from gold_metrics import Entry, definition_hash, image_set, load
from gold_metrics.clip_backends import config_of, renamed
from gold_metrics.hpsv2 import PRECISIONS, VIT_H_14, HPSv2
from gold_metrics.preprocess import MEAN, STD
from gold_metrics.weights import WeightsError

BACKENDS = ("open_clip", "transformers")
UPSTREAM: dict[str, Any] = tiny_clip.RECORDED["hpsv2"]["values"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write_checkpoint(tmp_path_factory.mktemp("hpsv2") / "tiny.pt")


def tiny(checkpoint: Path, **options: Any) -> HPSv2:
    return HPSv2(checkpoint=checkpoint, shape=SHAPE, device="cpu", **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "prompt"), zip(SIZES, PROMPTS + PROMPTS, strict=False))
def test_scores_are_those_of_hpsv2_itself(checkpoint: Path, backend: str, kind: str, prompt: str) -> None:
    (score,) = tiny(checkpoint, backend=backend).score([picture(kind)], [entry(prompt)])
    assert score.value == pytest.approx(UPSTREAM[kind], abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_prompt_is_cut_where_hpsv2_cuts_it(checkpoint: Path, backend: str) -> None:
    (score,) = tiny(checkpoint, backend=backend).score([picture("square")], [entry(LONG)])
    assert score.value == pytest.approx(UPSTREAM["long"], abs=1e-6)


@pytest.mark.parametrize("kind", SIZES)
def test_scores_are_the_documented_steps_done_by_hand(checkpoint: Path, kind: str) -> None:
    by_hand = score_by_hand(checkpoint, picture(kind), PROMPTS[1])
    (score,) = tiny(checkpoint).score([picture(kind)], [entry(PROMPTS[1])])
    assert score.value == pytest.approx(by_hand, abs=1e-6)


def score_by_hand(checkpoint: Path, image: np.ndarray, prompt: str) -> float:
    """Resize by torchvision, paste on black, normalize; both towers of open_clip, and a dot product in float64."""
    import open_clip
    from torchvision.transforms.functional import InterpolationMode, resize, to_tensor

    pixels = to_tensor(Image.fromarray(image))
    scale = SIDE / max(pixels.shape[1:])
    high, wide = round(pixels.shape[1] * scale), round(pixels.shape[2] * scale)
    square = torch.zeros(3, SIDE, SIDE)
    top, left = (SIDE - high) // 2, (SIDE - wide) // 2
    resized = resize(pixels, [high, wide], InterpolationMode.BICUBIC, antialias=True)
    square[:, top : top + high, left : left + wide] = resized
    square = (square - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    model = open_clip.model.CLIP(**SHAPE).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    with torch.no_grad():
        seen = model.encode_image(square[None])[0].double().numpy()
        said = model.encode_text(open_clip.get_tokenizer("ViT-H-14")([prompt]))[0].double().numpy()
    return float(seen @ said / np.linalg.norm(seen) / np.linalg.norm(said))


def test_the_two_backends_agree(checkpoint: Path) -> None:
    pictures, entries = tiny_clip.many(16)
    values = [[s.value for s in tiny(checkpoint, backend=backend).score(pictures, entries)] for backend in BACKENDS]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert np.std(values[0]) > 0.05  # far more than the tolerance: the pictures and prompts matter


def test_a_longest_side_of_the_models_own_length_is_padded_as_any_other(checkpoint: Path) -> None:
    assert "must match the size" in UPSTREAM["longest side as the model's"]  # there it is not
    wide = picture("wide")[:, :SIDE]
    (score,) = tiny(checkpoint).score([wide], [entry(PROMPTS[0])])
    padded = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    padded[6:26] = wide
    assert score.value == pytest.approx(tiny(checkpoint).score([padded], [entry(PROMPTS[0])])[0].value, abs=1e-6)


def scored_file(checkpoint: Path, folder: Path, png: bytes) -> float:
    """The score of a PNG as an image set holds it."""
    (folder / "a.png").write_bytes(png)
    listed = Entry("a.png", hashlib.sha256(png).hexdigest(), "p", PROMPTS[0], 0)
    (folder / "manifest.jsonl").write_text(json.dumps(dataclasses.asdict(listed)) + "\n")
    there = image_set.read(folder)
    assert there.images[0] is not None
    return tiny(checkpoint).score([there.images[0]], list(there.entries))[0].value


@pytest.mark.parametrize("transparency", [None, 3])
def test_a_palette_file_scores_as_in_hpsv2(checkpoint: Path, tmp_path: Path, transparency: int | None) -> None:
    recorded = UPSTREAM["palette" if transparency is None else "palette with a transparent color"]
    assert scored_file(checkpoint, tmp_path, tiny_clip.palette(transparency)) == pytest.approx(recorded, abs=1e-6)


def test_a_file_with_alpha_scores_as_its_colors_where_hpsv2_fails(checkpoint: Path, tmp_path: Path) -> None:
    assert "to have 3 channels, but got 4" in UPSTREAM["alpha"]
    (colors,) = tiny(checkpoint).score([picture("wide")], [entry(PROMPTS[0])])
    assert scored_file(checkpoint, tmp_path, tiny_clip.see_through()) == pytest.approx(colors.value, abs=1e-7)


def test_what_cannot_be_scored_is_missing_and_moves_no_other(checkpoint: Path) -> None:
    thin = np.zeros((1, 200, 3), dtype=np.uint8)
    pictures = [thin, picture("wide"), picture("wide"), picture("tall")]
    prompts = [PROMPTS[0], PROMPTS[1], " ", PROMPTS[2]]
    scorer = tiny(checkpoint)
    scores = scorer.score(pictures, [entry(prompt) for prompt in prompts])
    assert [math.isnan(score.value) for score in scores] == [True, False, True, False]
    assert "200x1" in scores[0].reason and "no prompt" in scores[2].reason
    alone = [scorer.score([pictures[i]], [entry(prompts[i])])[0].value for i in (1, 3)]
    assert [scores[1].value, scores[3].value] == pytest.approx(alone, abs=1e-6)


def test_nothing_is_loaded_where_nothing_can_be_scored(checkpoint: Path) -> None:
    scorer = tiny(checkpoint)
    assert math.isnan(scorer.score([picture("wide")], [entry("")])[0].value)
    assert scorer.score([], []) == [] and scorer.definition
    assert "_loaded" not in vars(scorer)


def test_a_number_that_is_not_finite_is_missing(tmp_path: Path, checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state["visual.proj"] = torch.full_like(state["visual.proj"], math.nan)
    torch.save({"state_dict": state}, tmp_path / "nan.pt")
    (score,) = tiny(tmp_path / "nan.pt").score([picture("wide")], [entry("a cat")])
    assert math.isnan(score.value) and "nan" in score.reason


def test_the_published_size_is_one_model_on_both_backends() -> None:
    import open_clip
    from transformers import CLIPConfig, CLIPModel

    assert open_clip.get_model_config("ViT-H-14") == VIT_H_14
    with torch.device("meta"):
        source = open_clip.model.CLIP(**VIT_H_14).state_dict()
        wanted = CLIPModel(CLIPConfig(**config_of(VIT_H_14))).state_dict()
    # The count of tensors and weights of HPSv2's own ViT-H-14 (its create_model on the meta device).
    assert (len(source), sum(value.numel() for value in source.values())) == (686, 986_109_441)
    assert {name: value.shape for name, value in renamed(source).items()} == {n: v.shape for n, v in wanted.items()}


def test_a_definition_tells_apart_what_changes_the_number(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    changes: tuple[dict[str, Any], ...] = ({}, {"version": "v2.0"}, {"backend": "transformers"})
    scorers = [*(tiny(checkpoint, **change) for change in changes), tiny(other)]
    assert len({definition_hash(scorer.definition) for scorer in scorers}) == len(scorers)
    said = scorers[0].definition
    assert said["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert said["preprocessing"]["antialias"] is True and said["precision"] == "fp32, no TF32"
    assert [each.definition["backend"] for each in scorers[1:3]] == ["open_clip", "transformers"]
    assert said["checkpoint"]["file"] == "HPS_v2.1_compressed.pt"
    assert scorers[1].definition["checkpoint"]["file"] == "HPS_v2_compressed.pt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "v2"}, "version should be v2.0 or v2.1, found 'v2'"),
        ({"backend": "clip"}, "backend should be open_clip or transformers"),
        ({"precision": "fp16"}, "precision should be fp32 or amp"),
        ({"precision": "amp", "device": "cpu"}, "amp needs a cuda device"),
    ],
)
def test_a_wrong_option_is_named(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("hpsv2", checkpoint=checkpoint, shape=SHAPE, **options)


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gold_metrics.weights.present", lambda weight: None)
    with pytest.raises(WeightsError, match=r"weights fetch hpsv2_v2\.0"):
        load("hpsv2", version="v2.0")
    with pytest.raises(WeightsError, match="found none"):
        load("hpsv2", checkpoint=tmp_path / "none.pt")


class Code:
    """What a file of weights must not hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code in a checkpoint ran",)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", [{"state_dict": {"visual.proj": torch.zeros(2)}}, {"state_dict": Code()}, [1], b""])
def test_other_weights_are_refused_in_one_line(tmp_path: Path, content: Any, backend: str) -> None:
    path = tmp_path / "wrong.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(WeightsError, match=r"wrong\.pt") as caught:
        tiny(path, backend=backend).score([picture("wide")], [Entry("", "", "p", "a cat", 0)])
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 autocast needs a CUDA device")
def test_amp_is_near_fp32_and_rounded_to_half(checkpoint: Path) -> None:
    pictures, entries = tiny_clip.many(16)
    scorers = [HPSv2(checkpoint=checkpoint, shape=SHAPE, device="cuda", precision=each) for each in PRECISIONS]
    exact, half = ([score.value for score in scorer.score(pictures, entries)] for scorer in scorers)
    assert half == pytest.approx(exact, abs=1e-2)
    assert half == np.float16(half).tolist() != exact


@pytest.mark.weights
def test_published_weights_agree_on_both_backends() -> None:
    try:
        scorers = [load("hpsv2", backend=backend) for backend in BACKENDS]
    except WeightsError as error:
        pytest.skip(f"3.9 GB of published weights: {error}")
    one, other = (scorer.score([picture("wide")], [entry(PROMPTS[0])])[0].value for scorer in scorers)
    # HPSv2's README tables of v2.1 span 0.145 to 0.313; one bad picture lies lower.
    assert one == pytest.approx(other, abs=1e-5) and 0 < one < 0.4
