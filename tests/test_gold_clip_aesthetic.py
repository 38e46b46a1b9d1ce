"""CLIPScore and Aesthetic against the published code, and what holds for every judge of the CLIP family."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import torch
from tiny_clip import PROMPTS, RECORDED, SHAPE, SIZES, entry, many, picture

from gold_metrics import Scorer, definition_hash, judge, load
from gold_metrics.aesthetic import Aesthetic, linear_stack
from gold_metrics.clip_score import ClipScore
from gold_metrics.image_set import ImageSet
from gold_metrics.weights import WeightsError

# Largest number that the tiny weights can give, so that each judge is held to 1e-6 of it.
SCALES = {
    "hpsv2": 1.0,
    "hpsv2 transformers": 1.0,
    "pickscore": math.exp(4),
    "clip_score": math.exp(4) / 100,
    "aesthetic": 1.0,
}
FAMILY = tuple(SCALES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip.write_checkpoint(folder / "hpsv2.pt")
    tiny_clip.write_folder(folder / "clip")
    return folder


def tiny(files: Path, name: str) -> Scorer:
    if name.startswith("hpsv2"):
        backend = name.partition(" ")[2] or "open_clip"
        return load("hpsv2", device="cpu", checkpoint=files / "hpsv2.pt", shape=SHAPE, backend=backend)
    return load(name, device="cpu", checkpoint=files / "clip")


def values(scorer: Scorer, pictures: list[Any], entries: list[Any]) -> list[float]:
    return [score.value for score in scorer.score(pictures, entries)]


@pytest.mark.parametrize(("kind", "prompt"), zip(SIZES, PROMPTS + PROMPTS, strict=False))
def test_clip_score_is_the_published_one_times_30_over_100(files: Path, kind: str, prompt: str) -> None:
    (score,) = ClipScore("cpu", files / "clip").score([picture(kind)], [entry(prompt)])
    assert score.value == pytest.approx(RECORDED["clip_score"]["values"][kind] * 30 / 100, abs=1e-6)


@pytest.mark.parametrize("kind", SIZES)
def test_aesthetic_is_the_published_one(files: Path, kind: str) -> None:
    (score,) = Aesthetic("cpu", files / "clip").score([picture(kind)], [entry("")])
    assert score.value == pytest.approx(RECORDED["aesthetic"]["values"][kind], abs=2e-6)


def test_the_aesthetic_predictor_is_one_linear_map_of_the_published_layout(files: Path) -> None:
    stack = linear_stack().eval()
    state = torch.load(files / "clip" / "aesthetic-model.pth", weights_only=True)
    stack.load_state_dict(state, strict=True)
    matrix, offset = torch.eye(768, dtype=torch.float64), torch.zeros(768, dtype=torch.float64)
    for at in (0, 2, 4, 6, 7):
        weight, bias = state[f"layers.{at}.weight"].double(), state[f"layers.{at}.bias"].double()
        matrix, offset = weight @ matrix, weight @ offset + bias
    embedding = torch.tensor(np.random.RandomState(0).standard_normal(768))
    found = stack["layers"](embedding.float()[None]).item()
    assert found == pytest.approx((matrix @ embedding + offset).item(), rel=1e-4)


def test_aesthetic_looks_at_no_prompt(files: Path) -> None:
    pictures = [picture("wide")] * 3
    found = values(tiny(files, "aesthetic"), pictures, [entry(prompt) for prompt in ("", "a cat", "two dogs")])
    assert found == pytest.approx([found[0]] * 3, abs=1e-6)


def test_the_judges_of_prompts_look_at_the_prompt(files: Path) -> None:
    for name in FAMILY[:4]:
        found = values(tiny(files, name), [picture("wide")] * 2, [entry("a cat"), entry("two dogs")])
        assert abs(found[0] - found[1]) > 1e-3 * SCALES[name], name


@pytest.mark.parametrize("name", FAMILY)
def test_scores_permute_with_their_inputs(files: Path, name: str) -> None:
    scorer, (pictures, entries) = tiny(files, name), many(16)
    order = np.random.default_rng(0).permutation(16)
    straight = np.array(values(scorer, pictures, entries))
    mixed = values(scorer, [pictures[i] for i in order], [entries[i] for i in order])
    assert mixed == pytest.approx(straight[order].tolist(), abs=1e-6 * SCALES[name])
    assert np.unique(straight.round(6)).size == 16  # else a wrong order could pass


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("batch", [1, 7])
def test_a_score_does_not_depend_on_its_neighbors(files: Path, name: str, batch: int) -> None:
    scorer, (pictures, entries) = tiny(files, name), many(16)
    parts = (slice(start, start + batch) for start in range(0, 16, batch))
    found = [value for part in parts for value in values(scorer, pictures[part], entries[part])]
    assert found == pytest.approx(values(scorer, pictures, entries), abs=1e-6 * SCALES[name])


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[int]]]:
    """Every CLIP cuts pictures into patches by its only convolution: made once per load, called once per forward."""
    seen: dict[str, list[int]] = {"made": [], "batches": []}
    make = torch.nn.Conv2d.__init__

    def counted(self: torch.nn.Conv2d, *arguments: Any, **options: Any) -> None:
        seen["made"].append(1)
        make(self, *arguments, **options)

    def called(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            seen["batches"].append(len(output))

    monkeypatch.setattr(torch.nn.Conv2d, "__init__", counted)
    hook = torch.nn.modules.module.register_module_forward_hook(called)
    yield seen
    hook.remove()


@pytest.mark.parametrize("name", FAMILY)
def test_a_judge_loads_its_model_once_and_runs_it_once_per_batch(
    files: Path, name: str, towers: dict[str, list[int]]
) -> None:
    pictures, entries = many(40)
    frame = judge(ImageSet(tuple(pictures), tuple(entries), ("",) * 40), [tiny(files, name)], batch=16)
    assert frame["score"].notna().all()
    assert towers == {"made": [1], "batches": [16, 16, 8]}


def test_definitions_are_json_and_tell_the_judges_apart(files: Path) -> None:
    definitions = [tiny(files, name).definition for name in FAMILY]
    assert len({definition_hash(each) for each in definitions}) == len(FAMILY)
    for each in definitions:
        assert each["preprocessing"]["antialias"] is True and each["precision"] == "fp32, no TF32"
        assert set(each["packages"]) >= {"torch"} and json.loads(json.dumps(each))
        sums = [file["sha256"] for file in each.get("files", [each.get("checkpoint")])]
        assert all(len(digest) == 64 for digest in sums)


@pytest.mark.parametrize("name", ["clip_score", "aesthetic", "pickscore", "hpsv2"])
def test_without_weights_a_judge_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("gold_metrics.weights.present", lambda weight: None)
    with pytest.raises(WeightsError, match=f"weights fetch {name}"):
        load(name)


def test_a_predictor_of_another_layout_is_refused(files: Path, tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "aesthetic-model.pth")
    with pytest.raises(WeightsError, match="does not fit the model") as caught:
        load("aesthetic", checkpoint=files / "clip", predictor=tmp_path).score([picture("wide")], [entry("")])
    assert "\n" not in str(caught.value)


@pytest.mark.weights
@pytest.mark.parametrize(("name", "lowest", "highest"), [("clip_score", 0.0, 0.5), ("aesthetic", 1.0, 10.0)])
def test_published_weights_score_on_the_published_scale(name: str, lowest: float, highest: float) -> None:
    try:
        scorer = load(name)
    except WeightsError as error:
        pytest.skip(f"1.7 GB of published weights: {error}")
    assert lowest < values(scorer, [picture("wide")], [entry("waves of color")])[0] < highest
