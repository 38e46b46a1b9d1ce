"""What holds for every proxy: order, batches, unfit prompts, bad input, and how a task finds its proxy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import bench.rewards
from bench.rewards.geneval import GenEval
from bench.rewards.pickscore import PickScore, PreferenceModel
from bench.rewards.proxy import Proxy
from bench.rewards.text import Text
from bench.tiny.grammar import all_prompts
from bench.tiny.preference import damage
from bench.tiny.render import render
from gold_metrics.scorer import Entry, definition_hash
from gold_metrics.weights import WeightsError

PROMPTS = all_prompts()[::9]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "preference.safetensors"
    save_file(PreferenceModel().state_dict(), path)
    return path


@pytest.fixture(params=["geneval", "pickscore", "text"])
def proxy(request: pytest.FixtureRequest, untrained: Path) -> Proxy:
    name: str = request.param
    return {"geneval": GenEval, "pickscore": lambda: PickScore(untrained), "text": Text}[name]()


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.stack([damage(render(target, rng), rng.uniform(), rng) for _, target in PROMPTS])


def rewards(proxy: Proxy, pictures: NDArray[np.uint8], order: Any) -> NDArray[np.float64]:
    chosen = [PROMPTS[i] for i in order]
    return proxy.rewards(pictures[order], [prompt for prompt, _ in chosen], [target for _, target in chosen])


def test_rewards_permute_with_their_pictures(proxy: Proxy, pictures: NDArray[np.uint8]) -> None:
    order = np.random.default_rng(1).permutation(len(PROMPTS))
    straight = rewards(proxy, pictures, np.arange(len(PROMPTS)))
    np.testing.assert_allclose(rewards(proxy, pictures, order), straight[order], atol=1e-5)


def test_batches_of_one_and_of_all_agree(proxy: Proxy, pictures: NDArray[np.uint8]) -> None:
    one_by_one = [rewards(proxy, pictures, [i])[0] for i in range(64)]
    np.testing.assert_allclose(one_by_one, rewards(proxy, pictures, np.arange(64)), atol=1e-5)


def test_what_fits_is_scored_and_what_does_not_says_so(proxy: Proxy, pictures: NDArray[np.uint8]) -> None:
    entries = [Entry("", "", prompt, prompt, 0, target) for prompt, target in PROMPTS]
    scores = proxy.score(list(pictures), entries)
    assert [proxy.fits(entry) for entry in entries] == [math.isfinite(score.value) for score in scores]
    assert all("is not for prompts like" in s.reason for s in scores if math.isnan(s.value))


def test_a_forgotten_target_is_a_fault_and_not_another_kind() -> None:
    picture, forgotten = np.zeros((32, 32, 3), dtype=np.uint8), Entry("", "", "p", "a red circle", 0)
    assert GenEval().fits(forgotten)
    (score,) = GenEval().score([picture], [forgotten])
    assert math.isnan(score.value) and "no target" in score.reason


def test_scores_equal_rewards_and_missing_ones_have_a_reason(proxy: Proxy, pictures: NDArray[np.uint8]) -> None:
    entries = [Entry("", "", prompt, prompt, 0, target) for prompt, target in PROMPTS]
    scores = proxy.score(list(pictures), entries)
    values = rewards(proxy, pictures, np.arange(len(PROMPTS)))
    np.testing.assert_allclose([score.value for score in scores], values, atol=1e-5)
    assert [bool(score.reason) for score in scores] == np.isnan(values).tolist()


def test_only_the_fitting_family_is_judged(pictures: NDArray[np.uint8], untrained: Path) -> None:
    families = np.array([target["family"] for _, target in PROMPTS])
    everything = np.arange(len(PROMPTS))
    assert (np.isnan(rewards(GenEval(), pictures, everything)) == (families == "text")).all()
    assert (np.isnan(rewards(Text(), pictures, everything)) == (families == "objects")).all()
    assert np.isfinite(rewards(PickScore(untrained), pictures, everything)).all()


def test_a_picture_of_another_size_is_missing_and_leaves_the_others(proxy: Proxy) -> None:
    prompt, target = {"text": all_prompts()[-1]}.get(proxy.name, all_prompts()[0])
    right = render(target, np.random.default_rng(0))
    entry = Entry("", "", prompt, prompt, 0, target)
    large, small = proxy.score([np.zeros((64, 64, 3), dtype=np.uint8), right], [entry, entry])
    assert math.isnan(large.value) and "(64, 64, 3)" in large.reason
    assert math.isfinite(small.value) and small.reason == ""


def test_bad_batches_say_what_was_wanted(proxy: Proxy) -> None:
    with pytest.raises(ValueError, match=r"uint8 pictures of shape \(N, 32, 32, 3\), found float64"):
        proxy.rewards(np.zeros((1, 32, 32, 3)), ["a"], [None])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found 2 pictures, 1 prompts, 1 targets"):
        proxy.rewards(np.zeros((2, 32, 32, 3), dtype=np.uint8), ["a"], [None])


def test_an_empty_batch_has_no_rewards(proxy: Proxy) -> None:
    assert proxy.rewards(np.zeros((0, 32, 32, 3), dtype=np.uint8), [], []).shape == (0,)


def test_definitions_differ_and_hash(untrained: Path) -> None:
    proxies = [GenEval(), PickScore(untrained), Text()]
    assert len({definition_hash(p.definition) for p in proxies}) == 3


def test_each_task_names_its_proxy() -> None:
    assert isinstance(bench.rewards.load("geneval", "tiny"), GenEval)
    assert isinstance(bench.rewards.load("text", "tiny"), Text)


@pytest.mark.parametrize(
    ("task", "scale", "message"),
    [
        ("genval", "tiny", "no task is called 'genval'; did you mean geneval"),
        ("beauty", "tiny", "did you mean geneval or pickscore or text"),
        ("text", "large", "no scale is called 'large'; did you mean tiny or paper"),
    ],
)
def test_unknown_names_are_told_the_near_ones(task: str, scale: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench.rewards.load(task, scale)


def test_a_full_size_task_without_weights_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gold_metrics.weights.present", lambda weight: None)
    with pytest.raises(WeightsError, match="`python -m gold_metrics weights fetch pickscore` gets it"):
        bench.rewards.load("pickscore", "paper")


def test_full_size_geneval_is_trained_on_partial_scores_and_reported_as_correct_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gold_metrics.load", lambda name, **options: (name, options))
    assert bench.rewards.load("geneval", "paper") == ("geneval", {})
    assert bench.rewards.load("geneval", "paper", rewarding=True) == ("geneval", {"rule": "partial"})
    assert bench.rewards.load("text", "paper", rewarding=True) == ("text", {})


def test_a_scorer_that_is_served_elsewhere_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gold_metrics.load", lambda name, **options: (name, options))
    judges = {"geneval": {"url": "http://a"}, "text": {"threads": 2}}
    assert bench.rewards.load("geneval", "paper", judges) == ("remote", {"url": "http://a", "scorer": "geneval"})
    assert bench.rewards.load("text", "paper", judges, rewarding=True) == ("text", {"threads": 2})
    with pytest.raises(ValueError, match=r"with rule=partial: serve that too and give judges\.geneval_reward\.url"):
        bench.rewards.load("geneval", "paper", judges, rewarding=True)
    served = judges | {"geneval_reward": {"url": "http://b"}}
    partial = bench.rewards.load("geneval", "paper", served, rewarding=True)
    assert partial == ("remote", {"url": "http://b", "scorer": "geneval"})


def test_missing_and_broken_weights_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "preference.safetensors"
    with pytest.raises(FileNotFoundError, match=r"preference\.safetensors.*bench\.tiny\.build"):
        PickScore(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"does not hold the preference model.*bench\.tiny\.build"):
        PickScore(path)
