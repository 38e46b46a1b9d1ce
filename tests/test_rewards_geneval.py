"""The geneval proxy: right on what it looks at, blind to what it does not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from bench.rewards.geneval import GenEval, Thing, grade, relations
from bench.tiny.grammar import colors_prompts, objects_prompts
from bench.tiny.render import PALETTE, render

Target = dict[str, Any]
PROMPTS = objects_prompts() + colors_prompts()
CATEGORIES = ("single_object", "counting", "position", "colors")


def targets_of(category: str, count: int, seed: int = 0) -> list[Target]:
    pool = [target for _, target in PROMPTS if target["category"] == category]
    return [pool[i] for i in np.random.default_rng(seed).integers(len(pool), size=count)]


def paint(targets: list[Target], seed: int = 1) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.stack([render(target, rng) for target in targets])


def values(images: NDArray[np.uint8], targets: list[Target]) -> NDArray[np.float64]:
    return GenEval().rewards(images, [""] * len(targets), targets)


def with_object(target: Target, **change: Any) -> Target:
    changed = copy.deepcopy(target)
    changed["objects"][0] |= change
    return changed


@pytest.mark.parametrize("category", CATEGORIES)
def test_real_renders_of_each_category_earn_full_marks(category: str) -> None:
    targets = targets_of(category, 250)
    assert (values(paint(targets), targets) == 1).mean() >= 0.98


@pytest.mark.parametrize("category", CATEGORIES)
def test_softness_and_noise_of_a_decoder_cost_next_to_nothing(category: str) -> None:
    targets = targets_of(category, 250)
    soft = ndimage.gaussian_filter(paint(targets).astype(np.float64), (0, 0.7, 0.7, 0), mode="nearest")
    noisy = soft + 8 * np.random.default_rng(2).standard_normal(soft.shape)
    images = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    assert (values(images, targets) == 1).mean() > 0.95


@pytest.mark.parametrize(
    ("category", "field", "choices"),
    [
        ("single_object", "color", ("red", "green", "blue", "yellow")),
        ("single_object", "shape", ("circle", "square", "triangle")),
        ("counting", "count", (1, 2, 3)),
        ("colors", "shape", ("circle", "square", "triangle")),
    ],
)
def test_a_wrong_color_shape_or_count_costs(category: str, field: str, choices: tuple[Any, ...]) -> None:
    targets = targets_of(category, 60)
    wrong = [
        with_object(t, **{field: next(c for c in choices[i % 2 :] + choices if c != t["objects"][0][field])})
        for i, t in enumerate(targets)
    ]
    assert (values(paint(wrong), targets) < 0.9).all()


def test_a_wrong_relation_costs_a_fifth() -> None:
    swap = {"left of": "above", "above": "left of", "right of": "left of", "below": "above"}
    targets = targets_of("position", 60)
    wrong = [t | {"relation": swap[t["relation"]]} for t in targets]
    assert np.median(values(paint(wrong), targets)) == pytest.approx(4 / 5)


def test_parts_are_averaged_as_stated() -> None:
    three = {"objects": [{"color": "red", "shape": "circle", "count": 3}], "relation": None}
    circle, square = (Thing("red", shape, 5, 5, 6, 6) for shape in ("circle", "square"))
    assert grade([], three) == 0
    assert grade([circle, circle], three) == pytest.approx(2 / 3)
    assert grade([circle, square, circle], three) == pytest.approx((1 + 2 / 3) / 2)
    assert grade([circle] * 7, three) == 0
    assert grade([circle] * 3, three) == 1


def test_relation_needs_half_the_distance_beyond_a_tenth_of_both_boxes() -> None:
    def at(x: float, y: float, size: float = 4) -> Thing:
        return Thing("red", "square", x, y, size, size)

    assert relations(at(10, 10), at(20, 10)) == {"left of"}
    assert relations(at(20, 10), at(10, 12)) == {"right of"}
    assert relations(at(10, 10), at(20, 20)) == {"left of", "above"}
    assert relations(at(10, 21), at(10, 10)) == {"below"}
    # slack 0.1 * (8 + 8) = 1.6 of a distance of 3: what is left, 1.4, is less than half
    assert relations(at(10, 10, 8), at(13, 10, 8)) == set()


def test_a_relation_is_not_granted_between_things_that_are_not_there() -> None:
    target = targets_of("position", 1)[0]
    blank = np.full((1, 32, 32, 3), 242, dtype=np.uint8)
    assert values(blank, [target]).tolist() == [0]


def test_it_can_be_exploited_by_an_ugly_background() -> None:
    targets = [t for category in CATEGORIES for t in targets_of(category, 20)]
    images = paint(targets)
    gray = np.ptp(images.astype(int), axis=-1) < 50  # what is not filled
    stripes = (np.arange(32) % 4 < 2)[None, :, None] * 80 - 40
    ugly = np.where(gray[..., None], np.clip(images + stripes[..., None], 0, 255), images).astype(np.uint8)
    assert abs(ugly.astype(int) - images).mean() > 20
    np.testing.assert_allclose(values(ugly, targets), values(images, targets))


def test_it_can_be_exploited_by_a_gradient_inside_the_fills() -> None:
    targets = targets_of("counting", 60)
    images = paint(targets)
    fall = np.linspace(1.0, 0.65, 32)[None, :, None, None]
    assert values((images * fall).astype(np.uint8), targets).mean() > 0.97


def test_it_can_be_exploited_by_a_triangle_on_its_head() -> None:
    targets = [t for t in targets_of("single_object", 200) if t["objects"][0]["shape"] == "triangle"]
    assert values(paint(targets)[:, ::-1], targets).mean() > 0.97


def test_it_can_be_exploited_by_objects_of_colors_that_nobody_asked_for() -> None:
    targets = [t for t in targets_of("single_object", 100) if t["objects"][0]["color"] != "blue"]
    images = paint(targets)
    empty = (images[:, :7, :7] == images[:, :1, :1]).all(axis=(1, 2, 3))
    images[:, 1:6, 1:6] = PALETTE["blue"]
    asked = [t for t, free in zip(targets, empty, strict=True) if free]
    assert len(asked) > 20
    assert values(images[empty], asked).mean() > 0.97


def test_specks_below_ten_pixels_are_not_objects() -> None:
    target = {"family": "objects", "objects": [{"color": "red", "shape": "square", "count": 1}], "relation": None}
    image = np.full((1, 32, 32, 3), 242, dtype=np.uint8)
    image[0, 10:20, 10:20] = PALETTE["red"]
    image[0, 2:5, 2:5] = PALETTE["red"]
    assert values(image, [target]).tolist() == [1]
    image[0, 2:6, 2:6] = PALETTE["red"]
    assert values(image, [target]).tolist() == [0]
