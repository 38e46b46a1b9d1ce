"""The card of the shipped weights: what it measures and what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import rewards
from bench.tiny import card
from bench.tiny.grammar import held_out
from gold_metrics import load

JUDGES = [load("correctness"), load("cleanliness"), rewards.load("geneval"), rewards.load("text")]
ASKED = card.prompts()[::6]


@pytest.fixture(scope="module")
def renders() -> NDArray[np.uint8]:
    return card.renders(ASKED, seed=1)


def numbers(**change: Any) -> dict[str, Any]:
    stage = {"stage": "sd3", "parameters": 765_432, "steps": 6000, "batch": 96, "seed": 7, "seconds": 1234.4}
    row = {"n": 42.0, "exact": 0.614, "correctness": 0.8124, "cleanliness": 0.4567, "pickscore": 21.5}
    preference = {
        "pairs": 70_123.0,
        "pictures": 31_000.0,
        "sampled_pictures": 2_400,
        "held_out_pairs": 3_999.0,
        "held_out_pair_accuracy": 0.8764,
        "margin": 0.02,
        "held_out_groups": 300,
        "clean_over_damaged": 0.9321,
        "right_over_near_miss": 0.6543,
    }
    quality = {"sd3": {"position": row, "counting": row}}
    made = {"machine": "Made on 2 cores.", "pictures": 40_000, "seed": 20_261, "stages": [stage]}
    made["reading"] = {"sd3": 0.9589, "flux": 0.8767}
    return made | {"quality": quality, "preference": preference} | change


def test_every_prompt_is_held_out_or_of_a_category_that_holds_none_out() -> None:
    seen = {(p.target or {})["category"]: held_out(p.text, p.target or {}) for p in card.prompts()}
    assert seen == {"single_object": False, "counting": False, "position": True, "colors": True, "text": True}


def test_renders_measure_as_perfect(renders: NDArray[np.uint8]) -> None:
    for row in card.measure(renders, ASKED, JUDGES).values():
        assert row["exact"] == row["correctness"] == 1
        assert row["cleanliness"] > 0.99
        assert row.get("geneval", 1) == row.get("text", 1) == 1


def test_each_row_counts_its_pictures_and_only_the_judges_that_fit(renders: NDArray[np.uint8]) -> None:
    measured = card.measure(renders, ASKED, JUDGES)
    objects = ("single_object", "counting", "position", "colors")
    assert sum(measured[name]["n"] for name in objects) == measured["objects, all"]["n"]
    assert measured["objects, all"]["n"] + measured["text"]["n"] == measured["all"]["n"] == len(renders)
    assert "geneval" not in measured["text"] and "text" not in measured["objects, all"]


def test_a_wrong_half_halves_the_exact_share(renders: NDArray[np.uint8]) -> None:
    half = renders.copy()
    half[len(ASKED) :] = 242  # the second picture of each prompt is empty
    for row in card.measure(half, ASKED, JUDGES).values():
        assert row["exact"] == row["correctness"] == 0.5


def test_the_card_tells_the_given_numbers() -> None:
    text = card.markdown(numbers(), megabytes=12.344)
    for told in ("12.34 MB", "Made on 2 cores.", "40,000", "seed 20261"):
        assert told in text
    assert "| sd3     | 765,432      | 6000    | 96      | 7      | 1,234     |" in text
    assert "| position   | 42  | 0.614   | 0.812         | 0.457         |" in text
    for told in ("70,123", "31,000", "2,400", "3,999", "0.876", "0.932", "0.654", "0.02"):
        assert told in text


def test_the_card_marks_what_is_not_held_out() -> None:
    text = card.markdown(numbers(), megabytes=1)
    assert "counting *" in text and "position *" not in text


def test_the_card_says_what_was_not_recorded() -> None:
    stage = numbers()["stages"][0] | {"seconds": None}
    assert "not recorded" in card.markdown(numbers(stages=[stage]), megabytes=1)
    assert "not recorded" not in card.markdown(numbers(), megabytes=1)
