"""The pickscore proxy: learns its judge's taste, repeats from its seed, goes astray off its training world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.rewards.pickscore import REAL_MEAN, WEIGHTS, PickScore, load_model, pixels, tokens
from bench.tiny.grammar import all_prompts, held_out
from bench.tiny.preference import Candidates, by_oracles, compare, damage, draw, near_miss, train
from bench.tiny.render import render
from gold_metrics.scorer import Entry


@pytest.fixture(scope="module")
def briefly_trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    path = tmp_path_factory.mktemp("weights") / "preference.safetensors"
    return path, train(path, by_oracles, steps=60, groups=200, held_out_groups=80)


def renders(count: int, seed: int) -> tuple[NDArray[np.uint8], list[str], list[Any]]:
    rng = np.random.default_rng(seed)
    fresh = [pair for pair in all_prompts() if held_out(*pair)]
    chosen = [fresh[i] for i in rng.integers(len(fresh), size=count)]
    return np.stack([render(t, rng) for _, t in chosen]), [p for p, _ in chosen], [t for _, t in chosen]


def test_a_small_part_of_training_already_sees_damage(briefly_trained: tuple[Path, dict[str, float]]) -> None:
    chance_and_two_errors = 0.5 + 2 * 0.5 / np.sqrt(80)
    assert briefly_trained[1]["clean_over_damaged"] > chance_and_two_errors


def test_real_renders_average_the_stated_number(briefly_trained: tuple[Path, dict[str, float]]) -> None:
    images, prompts, targets = renders(300, seed=7)
    values = PickScore(briefly_trained[0]).rewards(images, prompts, targets)
    assert values.mean() == pytest.approx(REAL_MEAN, abs=0.3)


def test_training_is_made_again_from_its_seed(tmp_path: Path) -> None:
    def bytes_of(name: str, seed: int) -> bytes:
        path = tmp_path / name
        train(path, by_oracles, seed=seed, steps=3, groups=10, held_out_groups=5)
        return path.read_bytes()

    assert bytes_of("a", 0) == bytes_of("b", 0)
    assert bytes_of("a", 0) != bytes_of("c", 1)


def test_word_order_reaches_the_model() -> None:
    a, b = tokens(["a red circle left of a blue square", "a blue circle left of a red square"])
    assert a.tolist() != b.tolist()
    assert sorted(a.tolist()) != sorted(b.tolist())  # the sum over positions differs too


def test_pairs_leave_out_ties_and_missing_labels() -> None:
    group = Candidates("p", {}, np.zeros((4, 32, 32, 3), dtype=np.uint8))
    pairs = compare([group, group], lambda pictures, entries: np.array([0.5, np.nan, 0.51, 0.9]))
    assert list(zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True)) == [
        (3, 0),
        (3, 2),
        (7, 4),
        (7, 6),
    ]


def test_a_judge_without_opinion_is_an_error() -> None:
    group = Candidates("p", {}, np.zeros((4, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="check `label`"):
        compare([group], lambda pictures, entries: np.zeros(4))


def test_training_never_sees_a_held_out_prompt() -> None:
    pool = dict(all_prompts())
    trained = {g.prompt for g in draw(100, np.random.default_rng(0), for_training=True)}
    evaluated = {g.prompt for g in draw(100, np.random.default_rng(0), for_training=False)}
    assert not any(held_out(prompt, pool[prompt]) for prompt in trained)
    assert {"position", "colors", "text"} == {pool[p]["category"] for p in evaluated if held_out(p, pool[p])}


def test_a_near_miss_is_wrong_in_exactly_one_place() -> None:
    rng = np.random.default_rng(0)
    for _, target in all_prompts()[::5]:
        wrong = near_miss(target, rng)
        if target["family"] == "text":
            assert sum(a != b for a, b in zip(wrong["text"], target["text"], strict=True)) == 1
            continue
        things = [*zip(wrong["objects"], target["objects"], strict=True)]
        faults = sum(a[key] != b[key] for a, b in things for key in ("color", "shape", "count"))
        assert faults + (wrong["relation"] != target["relation"]) == 1


def test_damage_grows_with_its_level() -> None:
    picture = renders(1, seed=3)[0][0]

    def distance(level: float) -> float:
        worn = [damage(picture, level, np.random.default_rng(seed)) for seed in range(40)]
        return float(np.mean([abs(p.astype(float) - picture).mean() for p in worn]))

    distances = [distance(level) for level in (0.0, 0.25, 0.5, 1.0)]
    assert distances[0] == 0
    assert distances == sorted(distances)


needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="python -m bench.tiny.build has not been run")


@needs_weights
def test_shipped_model_ranks_a_render_above_its_damaged_twin() -> None:
    images, prompts, targets = renders(300, seed=11)
    rng = np.random.default_rng(12)
    worn = np.stack([damage(image, rng.uniform(0.1, 1), rng) for image in images])
    model = PickScore()
    clean, damaged = (model.rewards(pictures, prompts, targets) for pictures in (images, worn))
    assert (clean > damaged).mean() > 0.85


@needs_weights
def test_shipped_model_prefers_the_prompted_picture_to_an_unrelated_one() -> None:
    images, prompts, targets = renders(300, seed=13)
    model = PickScore()
    right = model.rewards(images, prompts, targets)
    wrong = model.rewards(images, prompts[1:] + prompts[:1], targets)
    assert (right > wrong).mean() > 0.8


@needs_weights
def test_shipped_model_can_be_exploited_by_wrong_letters() -> None:
    """It looks at how clean letters are more than at which they are."""
    rng = np.random.default_rng(17)
    prompts = [pair for pair in all_prompts() if pair[1]["family"] == "text"]
    right = np.stack([render(target, rng) for _, target in prompts])
    wrong = np.stack([render(near_miss(target, rng), rng) for _, target in prompts])
    values = [PickScore().rewards(p, [prompt for prompt, _ in prompts], [None] * len(prompts)) for p in (right, wrong)]
    assert (values[1] > values[0]).mean() > 0.25


@needs_weights
def test_shipped_model_can_be_climbed_while_the_judge_falls() -> None:
    images, prompts, targets = renders(32, seed=19)
    model, words = load_model(WEIGHTS), tokens(prompts)
    climbed = pixels(images)
    for _ in range(10):
        climbed = climbed.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(climbed, words).sum(), climbed)
        climbed = (climbed + 2 / 127.5 * slope.sign()).clamp(-1, 1)
    ugly = ((climbed.detach() + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    entries = [Entry("", "", p, p, 0, t) for p, t in zip(prompts, targets, strict=True)]
    proxy = PickScore()
    assert proxy.rewards(ugly, prompts, targets).mean() > proxy.rewards(images, prompts, targets).mean() + 2
    assert by_oracles(list(ugly), entries).mean() < by_oracles(list(images), entries).mean() - 0.2
