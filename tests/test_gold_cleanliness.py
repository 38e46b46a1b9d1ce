"""Cleanliness: closed forms on flat pictures and single edges."""

from __future__ import annotations

import numpy as np
import pytest
from gold_pictures import CATEGORIES, entry, paint, sample

from bench.tiny import render
from gold_metrics import Picture
from gold_metrics.cleanliness import EDGE_WEIGHT, SCALE, Cleanliness, render_error
from gold_metrics.tiny_world import shipped

WHITE, BLUE = (np.array(c, dtype=np.float64) for c in (render.BACKGROUNDS["white"], render.PALETTE["blue"]))


def painted(cover: np.ndarray) -> Picture:
    return np.rint(WHITE + cover[..., None] * (BLUE - WHITE)).astype(np.uint8)


def columns(*covers: float) -> Picture:
    """White on the left, blue on the right, and the given covers between them."""
    row = np.concatenate([np.zeros(20), covers, np.ones(12 - len(covers))])
    return painted(np.tile(row, (32, 1)))


@pytest.mark.parametrize("category", CATEGORIES)
def test_real_pictures_are_clean(category: str) -> None:
    pictures = [paint(target, seed) for target, seed in sample(category, 100)]
    scores = Cleanliness().score(pictures, [entry(None)] * 100)
    assert np.mean([score.value for score in scores]) > 0.995


@pytest.mark.parametrize("background", render.BACKGROUNDS)
def test_a_background_is_found_under_things_that_cover_more_than_half_of_the_picture(background: str) -> None:
    ground = np.array(render.BACKGROUNDS[background], dtype=np.float64)
    canvas = np.tile(ground, (32, 32, 1))
    for x, y in ((8, 8), (24, 8), (16, 24)):
        cover = np.clip(0.5 - render.DISTANCE["square"](x, y, 7.0), 0, 1)[..., None]
        canvas += cover * (np.array(render.PALETTE["blue"]) - canvas)
    picture = np.rint(canvas).astype(np.uint8)
    assert (picture == ground).all(axis=2).mean() < 0.5
    assert Cleanliness().score([picture], [entry(None)])[0].value > 0.9


@pytest.mark.parametrize("offset", [2, 5, 12])
def test_a_flat_picture_is_off_by_its_distance_from_the_background(offset: int) -> None:
    flat = np.full((32, 32, 3), 242 - offset, dtype=np.uint8)
    distance = offset * np.sqrt(3)
    assert render_error(flat, shipped()) == pytest.approx(distance)
    expected = np.exp(-(distance - shipped().statistics["render_error"]) / SCALE)
    assert Cleanliness().score([flat], [entry(None)])[0].value == pytest.approx(expected)


@pytest.mark.parametrize("cover", [0.0, 0.3, 0.5, 0.8])
def test_an_edge_one_pixel_wide_is_free_wherever_it_lies(cover: float) -> None:
    assert render_error(columns(cover), shipped()) < 0.5  # rounding to whole units


def test_an_edge_pixel_off_the_mixing_line_costs_its_distance_from_it() -> None:
    picture = columns(0.5)
    aside = np.cross(WHITE - BLUE, [0.0, 0.0, 1.0])
    aside *= 40 / np.linalg.norm(aside)
    picture[:, 20] = np.rint(picture[:, 20] + aside)
    weight = 1 + EDGE_WEIGHT
    assert render_error(picture, shipped()) == pytest.approx(40 * weight / (29 + 3 * weight), rel=0.05)


def test_an_edge_three_pixels_wide_costs_its_distance_from_either_color() -> None:
    # The middle pixel spans from 0.25 to 0.75, which is no edge yet: it pays its way to the nearer color in full. Its
    # neighbours span 0.5 as well (0 to 0.5 and 0.5 to 1) and pay 0.25 of the way each; five columns bear the weight.
    way = float(np.linalg.norm(WHITE - BLUE))
    weight = 1 + EDGE_WEIGHT
    expected = weight * way * (0.25 + 0.5 + 0.25) / (27 + 5 * weight)
    assert render_error(columns(0.25, 0.5, 0.75), shipped()) == pytest.approx(expected, rel=0.02)


def test_a_mark_too_small_to_be_a_thing_should_be_background() -> None:
    cover = np.zeros((32, 32))
    cover[4, 4] = 1
    error = render_error(painted(cover), shipped())
    assert error == pytest.approx(float(np.linalg.norm(WHITE - BLUE)) / 1024)
    cover[10:13, 10:13] = 1
    assert render_error(painted(cover), shipped()) < error
