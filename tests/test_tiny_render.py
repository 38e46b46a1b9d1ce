"""The renderer paints what the target says, and nothing but its generator decides the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.tiny import render
from bench.tiny.grammar import RELATIONS


def thing(color: str, shape: str, count: int = 1) -> dict[str, Any]:
    return {"color": color, "shape": shape, "count": count}


def objects(things: list[dict[str, Any]], relation: str | None = None) -> dict[str, Any]:
    return {"family": "objects", "category": "x", "objects": things, "relation": relation}


def where(picture: render.Picture, color: str) -> tuple[float, float]:
    """Center of the pixels of a palette color: x, y."""
    close = np.abs(picture.astype(int) - render.PALETTE[color]).max(axis=2) < 6
    y, x = close.nonzero()
    return float(x.mean()), float(y.mean())


def test_the_generator_alone_decides() -> None:
    target = objects([thing("red", "circle", 2)])
    one, other = (render.render(target, np.random.default_rng(5)) for _ in range(2))
    assert (one == other).all()
    assert (one != render.render(target, np.random.default_rng(6))).any()


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_hold_between_the_centers(relation: str) -> None:
    target = objects([thing("red", "square"), thing("blue", "circle")], relation)
    for seed in range(40):
        picture = render.render(target, np.random.default_rng(seed))
        (x1, y1), (x2, y2) = where(picture, "red"), where(picture, "blue")
        ahead = {"left of": x2 - x1, "right of": x1 - x2, "above": y2 - y1, "below": y1 - y2}[relation]
        assert ahead > abs(y1 - y2 if relation in ("left of", "right of") else x1 - x2) - 1


@pytest.mark.parametrize(("shape", "share"), [("circle", np.pi / 4), ("square", 1.0), ("triangle", 0.5)])
def test_shapes_fill_their_boxes_as_geometry_says(shape: str, share: float) -> None:
    for seed in range(20):
        picture = render.render(objects([thing("green", shape)]), np.random.default_rng(seed)).astype(float)
        background = picture[0, 0]
        cover = ((picture - background) @ (np.array(render.PALETTE["green"]) - background)) / (
            np.square(np.array(render.PALETTE["green"]) - background).sum()
        )
        height, width = cover.max(axis=1).sum(), cover.max(axis=0).sum()  # in pixels, edge pixels by their cover
        assert cover.sum() / (height * width) == pytest.approx(share, abs=0.1)


def test_letters_are_the_glyphs_dot_for_dot() -> None:
    picture = render.render({"family": "text", "category": "text", "text": "K7"}, np.random.default_rng(1))
    ink = (picture != picture[0, 0]).any(axis=2)
    y, x = ink.nonzero()
    box = ink[y.min() : y.max() + 1, x.min() : x.max() + 1]
    wide = render.GLYPH_SCALE * 5
    letters = [box[:, :wide], box[:, -wide:]]
    for letter, drawn in zip("K7", letters, strict=True):
        assert (np.kron(render.glyph(letter), np.ones((2, 2))) == drawn).all()


def test_things_never_touch() -> None:
    from scipy import ndimage

    for seed in range(60):
        picture = render.render(objects([thing("yellow", "circle", 3)]), np.random.default_rng(seed))
        cover = np.abs(picture.astype(int) - picture[0, 0]).max(axis=2) > 60
        assert ndimage.label(cover)[1] == 3
