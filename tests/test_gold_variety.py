"""Variety: closed forms on moved pictures, real sets, and what adds nothing."""

from __future__ import annotations

import numpy as np
import pytest
from gold_pictures import CATEGORIES, entry, paint, sample

from bench.tiny import grammar, render
from gold_metrics import Picture
from gold_metrics.tiny_world import shipped
from gold_metrics.variety import UNSEEN_PLACE, UNSEEN_SIZE, Variety, differences

CIRCLE = dict(grammar.all_prompts())["a red circle"]
CIRCLES = dict(grammar.all_prompts())["two red circles"]


def drawn(*places: tuple[float, float, float], background: str = "white") -> Picture:
    canvas = np.tile(np.array(render.BACKGROUNDS[background], dtype=np.float64), (32, 32, 1))
    for place in places:
        cover = np.clip(0.5 - render.DISTANCE["circle"](*place), 0, 1)
        canvas += cover[..., None] * (np.array(render.PALETTE["red"]) - canvas)
    return np.rint(canvas).astype(np.uint8)


def variety(pictures: list[Picture], target: dict | None = CIRCLE) -> float:
    return Variety().score(pictures, [entry(target)] * len(pictures))[0].value


def test_differences_are_the_pixels_that_a_thing_moved_and_grew() -> None:
    pictures = [drawn((10, 10, 5)), drawn((13, 14, 5)), drawn((10, 10, 7), background="dark")]
    apart = differences(pictures, CIRCLE, shipped())
    assert apart["place"][0, 1] == pytest.approx(5 - UNSEEN_PLACE, abs=0.1)
    assert apart["place"][0, 2] == pytest.approx(0, abs=0.1)
    assert apart["size"][0, 2] == pytest.approx(2 - UNSEEN_SIZE, abs=0.1)
    assert apart["background"].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_things_of_one_kind_are_paired_so_that_they_lie_nearest() -> None:
    # Neither by size nor from left to right are the circles of the two pictures in the same order.
    pictures = [drawn((15.5, 7, 4.5), (16.5, 25, 4)), drawn((17.5, 7, 4), (14.5, 25, 4.5))]
    apart = differences(pictures, CIRCLES, shipped())
    assert apart["place"][0, 1] == pytest.approx(2 - UNSEEN_PLACE, abs=0.1)
    assert apart["size"][0, 1] == pytest.approx(0.5 - UNSEEN_SIZE, abs=0.1)


def test_of_pairings_that_are_equally_near_the_one_of_like_sizes_counts_and_noise_does_not_choose() -> None:
    # A row and a column: either circle is 11.3 pixels from either.
    row, column = drawn((8, 16, 5), (24, 16, 7)), drawn((16, 8, 5), (16, 24, 7))
    for picture in (column, np.clip(column + np.random.default_rng(0).normal(0, 4, column.shape), 0, 255).astype("u1")):
        apart = differences([row, picture], CIRCLES, shipped())
        assert apart["size"][0, 1] == pytest.approx(0, abs=0.05)
        assert apart["place"][0, 1] == pytest.approx(8 * np.sqrt(2) - UNSEEN_PLACE, abs=0.1)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("size", [6, 12])
def test_real_sets_have_the_renderers_variety(category: str, size: int) -> None:
    sets = [([paint(target, seed + i) for i in range(size)], target) for target, seed in sample(category, 8)]
    assert np.mean([variety(pictures, target) for pictures, target in sets]) > 0.85


def test_one_picture_repeated_has_none() -> None:
    assert variety([drawn((10, 10, 5))] * 6) == 0


def test_backgrounds_alone_are_a_third_of_the_variety() -> None:
    pictures = [drawn((10, 10, 5), background=name) for name in render.BACKGROUNDS]
    assert variety(pictures) == pytest.approx(1 / 3, abs=0.01)


def test_pictures_that_show_nothing_asked_for_add_nothing() -> None:
    empty = [drawn(background=name) for name in render.BACKGROUNDS]
    assert variety(empty) == 0
    moved = [drawn((8 + 3 * i, 8, 4 + i / 2)) for i in range(4)]
    assert variety(moved + empty) < variety(moved)


def test_a_thing_of_the_wrong_color_still_has_its_place() -> None:
    wrong = [drawn((8 + 3 * i, 8, 4)) for i in range(4)]
    blue = dict(grammar.all_prompts())["a blue circle"]
    assert variety(wrong, blue) == pytest.approx(variety(wrong))


def test_one_score_per_prompt_in_order_of_first_appearance() -> None:
    same, moved = drawn((10, 10, 5)), drawn((20, 20, 7), background="dark")
    entries = [entry(CIRCLE, prompt_id) for prompt_id in "baab"]
    scores = Variety().score([same, same, moved, same], entries)
    assert [score.value for score in scores] == pytest.approx([0, 1])


@pytest.mark.parametrize(("target", "count", "reason"), [(CIRCLE, 1, "two pictures"), (None, 2, "target")])
def test_what_cannot_be_judged_is_missing_with_its_reason(target: dict | None, count: int, reason: str) -> None:
    score = Variety().score([drawn((10, 10, 5))] * count, [entry(target)] * count)[0]
    assert np.isnan(score.value) and reason in score.reason
