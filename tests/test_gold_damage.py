"""Graded damage: each oracle falls under its own kind, and none rises under any."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from gold_pictures import CATEGORIES, DAMAGES, noisy, paint, sample, sixty

import gold_metrics

# Sampling jitter of a mean over sixty pictures: our choice.
TOLERANCE = 0.005


@functools.cache
def means(damage: str) -> dict[str, list[float]]:
    """Mean score of each oracle at each level of a damage, over sixty pictures in ten sets."""
    pictures, entries, made = sixty()
    apply, levels = DAMAGES[damage]
    damaged = [apply(pictures, made, level) for level in levels]
    oracles = [gold_metrics.load(name) for name in gold_metrics.ORACLES]
    return {
        oracle.name: [float(np.mean([s.value for s in oracle.score(each, entries)])) for each in damaged]
        for oracle in oracles
    }


@pytest.mark.parametrize("oracle", gold_metrics.ORACLES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_oracle_rises_under_any_damage(damage: str, oracle: str) -> None:
    curve = means(damage)[oracle]
    assert max(np.diff(curve)) <= TOLERANCE, curve


@pytest.mark.parametrize("damage", ["blur", "noise", "color shift", "stripes"])
def test_cleanliness_falls_at_every_level_of_what_spoils_pixels(damage: str) -> None:
    curve = means(damage)["cleanliness"]
    assert curve[0] > 0.97
    assert max(np.diff(curve)) < 0
    assert curve[-1] < 0.2


@pytest.mark.parametrize("damage", ["missing things", "wrong colors", "wrong shapes"])
def test_correctness_falls_with_every_missing_or_wrong_thing(damage: str) -> None:
    curve = means(damage)["correctness"]
    assert curve[0] > 0.99
    assert curve[1] < curve[0] - 0.3
    assert curve[2] < curve[1] - 0.1
    assert curve[3] < curve[2] - 0.01  # only three things in one picture are counted by the last level


@pytest.mark.parametrize("damage", ["missing things", "wrong colors", "wrong shapes"])
def test_cleanliness_does_not_care_what_is_shown(damage: str) -> None:
    assert min(means(damage)["cleanliness"]) > 0.99


def test_variety_falls_with_every_repetition_and_ends_at_nothing() -> None:
    curve = means("repetition")["variety"]
    assert curve[0] > 0.9
    assert max(np.diff(curve)) < 0
    assert curve[-1] == 0


@pytest.mark.parametrize("spread", [4.0, 16.0, 32.0, 64.0])
def test_noise_does_not_pass_for_variety(spread: float) -> None:
    rng = np.random.default_rng(6)
    pictures, entries = [], []
    for category in CATEGORIES:
        for target, seed in sample(category, 2):
            pictures += [noisy(paint(target, seed), spread, rng) for _ in range(8)]
            entries += [gold_metrics.Entry("", "", f"{category}-{seed}", "", 0, target)] * 8
    scores = gold_metrics.load("variety").score(pictures, entries)
    assert np.mean([score.value for score in scores]) <= 0.02  # of the renderer's own spread
