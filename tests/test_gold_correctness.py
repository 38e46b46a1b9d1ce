"""Correctness: closed-form shares on hand-made targets, real and soft pictures, and what must not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gold_pictures import CATEGORIES, entry, paint, sample, softened
from numpy.typing import NDArray

from bench.tiny import render
from gold_metrics import Picture
from gold_metrics.correctness import Correctness, common_in_order
from gold_metrics.tiny_parts import things
from gold_metrics.tiny_world import segment, shipped

GLYPH_E = "##### #.... #.... ####. #.... #.... #####"
WHITE, RED = render.BACKGROUNDS["white"], render.PALETTE["red"]


def thing(color: str, shape: str, count: int = 1) -> dict[str, Any]:
    return {"color": color, "shape": shape, "count": count}


def objects(*things: dict[str, Any], relation: str | None = None) -> dict[str, Any]:
    return {"family": "objects", "category": "", "objects": list(things), "relation": relation}


def text(letters: str) -> dict[str, Any]:
    return {"family": "text", "category": "text", "text": letters}


def judged(picture: Picture, target: dict[str, Any]) -> float:
    return Correctness().score([picture], [entry(target)])[0].value


def on_white(cover: NDArray[np.float64], color: tuple[int, int, int] = RED) -> Picture:
    return np.rint(np.array(WHITE) + cover[..., None] * (np.array(color) - WHITE)).astype(np.uint8)


TWO = objects(thing("red", "circle"), thing("blue", "square"), relation="left of")


@pytest.mark.parametrize(
    ("shown", "asked", "share"),
    [
        (TWO, TWO, 1),
        (TWO, {**TWO, "relation": "right of"}, 2 / 3),
        (TWO, {**TWO, "relation": "above"}, 2 / 3),
        (TWO, objects(thing("red", "circle"), thing("red", "square")), (1 + 1 / 2) / 2),
        (TWO, objects(thing("red", "circle")), 1 / 2),
        (objects(thing("red", "circle")), TWO, 1 / 3),
        (objects(thing("red", "circle"), thing("blue", "triangle"), relation="left of"), TWO, (1 + 1 / 2) / 3),
        (objects(thing("red", "circle")), objects(thing("red", "triangle")), 1 / 2),
        (objects(thing("red", "circle")), objects(thing("blue", "circle")), 1 / 2),
        (objects(thing("red", "circle")), objects(thing("blue", "square")), 0),
        (objects(thing("green", "triangle", 2)), objects(thing("green", "triangle", 3)), 2 / 3),
        (objects(thing("green", "triangle", 3)), objects(thing("green", "triangle", 2)), 2 / 3),
        (text("K7"), text("K7"), 1),
        (text("K7"), text("7K"), 1 / 2),
        (text("K7"), text("K4"), 1 / 2),
        (text("K7"), text("A2"), 0),
        (text("K"), text("K7"), 1 / 2),
        (text("K7"), objects(thing("red", "circle")), 0),
        (objects(thing("red", "circle")), text("K7"), 0),
    ],
)
def test_the_score_is_the_share_of_what_was_asked(shown: dict[str, Any], asked: dict[str, Any], share: float) -> None:
    assert [judged(paint(shown, seed), asked) for seed in range(5)] == pytest.approx([share] * 5)


def test_an_empty_picture_scores_nothing() -> None:
    empty = on_white(np.zeros((32, 32)))
    assert judged(empty, TWO) == judged(empty, text("K7")) == 0


@pytest.mark.parametrize("color", [render.INK["white"], RED])
def test_a_blot_beside_the_letters_costs_as_much_as_a_letter_too_many(color: tuple[int, int, int]) -> None:
    seed = next(seed for seed in range(99) if (paint(text("K7"), seed)[22:] == WHITE).all())
    picture = paint(text("K7"), seed)
    assert judged(picture, text("K7")) == 1
    picture[24:29, 13:18] = color
    assert judged(picture, text("K7")) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", render.DISTANCE)
def test_a_thing_lies_where_the_renderer_put_it(shape: str) -> None:
    picture = on_white(np.clip(0.5 - render.DISTANCE[shape](14.3, 15.8, 6.0), 0, 1))
    (found,) = things(segment(picture, shipped()), shipped())
    assert (found.color, found.shape) == ("red", shape)
    assert (found.x, found.y) == pytest.approx((14.3, 15.8), abs=0.15)


def test_more_things_than_asked_never_earn_more() -> None:
    counts = [
        judged(paint(objects(thing("blue", "circle", n)), 3), objects(thing("blue", "circle"))) for n in (1, 2, 3)
    ]
    assert counts == pytest.approx([1, 1 / 2, 1 / 3])


@pytest.mark.parametrize("category", CATEGORIES)
def test_real_pictures_are_exactly_right(category: str) -> None:
    made = sample(category, 200)
    values = [judged(paint(target, seed), target) for target, seed in made]
    assert np.mean(np.array(values) == 1.0) > 0.99


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_decoders_softness_costs_nothing(category: str) -> None:
    rng = np.random.default_rng(1)
    values = [judged(softened(paint(target, seed), rng), target) for target, seed in sample(category, 100)]
    assert np.mean(values) > 0.99


Y, X = np.mgrid[0:128, 0:128] / 4 - 16 + 1 / 8  # four by four samples per pixel, origin in the middle
NOT_SHAPES = {
    "ellipse": (X / 7) ** 2 + (Y / 4) ** 2 < 1,
    "bar": (abs(X) < 8) & (abs(Y) < 3.5),
    "ring": (np.hypot(X, Y) < 7) & (np.hypot(X, Y) > 3),
    "plus": ((abs(X) < 2) & (abs(Y) < 7)) | ((abs(Y) < 2) & (abs(X) < 7)),
    "triangle upside down": (abs(Y) < 6) & (2 * abs(X) < 6 - Y),
    "half circle": (np.hypot(X, Y) < 8) & (Y < 0),
}


@pytest.mark.parametrize("name", NOT_SHAPES)
def test_what_is_no_shape_passes_for_none(name: str) -> None:
    cover = NOT_SHAPES[name].reshape(32, 4, 32, 4).mean(axis=(1, 3))
    values = {shape: judged(on_white(cover), objects(thing("red", shape))) for shape in render.DISTANCE}
    assert set(values.values()) == {0.5}  # for its color


@pytest.mark.parametrize("color", [(214, 48, 214), (140, 140, 60), (230, 124, 45)])
def test_a_color_of_no_paint_passes_for_none(color: tuple[int, int, int]) -> None:
    picture = on_white((np.hypot(X, Y) < 6).reshape(32, 4, 32, 4).mean(axis=(1, 3)), color)
    assert max(judged(picture, objects(thing(known, "circle"))) for known in render.PALETTE) <= 0.5  # for its shape


def test_a_letter_of_another_alphabet_is_not_read_as_the_nearest() -> None:
    dots = np.array([[dot == "#" for dot in row] for row in GLYPH_E.split()], dtype=np.float64)
    cover = np.zeros((32, 32))
    cover[9:23, 11:21] = np.kron(dots, np.ones((2, 2)))
    assert [judged(on_white(cover, render.INK["white"]), text(letter)) for letter in "FLC"] == [0, 0, 0]


def test_no_target_is_a_missing_score_with_its_reason() -> None:
    score = Correctness().score([paint(TWO, 0)], [entry(None)])[0]
    assert np.isnan(score.value) and "target" in score.reason


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [("K7", "K7", 2), ("K7", "7K", 1), ("AKA7", "A7", 2), ("", "A", 0), ("CAT", "ACT", 2)],
)
def test_common_in_order_is_the_longest_common_subsequence(one: str, other: str, length: int) -> None:
    assert common_in_order(one, other) == common_in_order(other, one) == length


@pytest.mark.parametrize("target", [None, {"family": "objects", "objects": []}, {"family": "text"}])
def test_a_target_that_cannot_be_checked_gives_no_score_but_a_reason(target: dict[str, Any] | None) -> None:
    (score,) = Correctness().score([paint(text("A7"), 0)], [entry(target)])
    assert np.isnan(score.value)
    assert score.reason.endswith(("only its text", "lacks category, relation", "lacks category, text"))
