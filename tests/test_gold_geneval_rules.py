"""GenEval's rules against verdicts that upstream's own functions gave on hand-made boxes (tests/data says which)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gold_metrics.geneval_rules import (
    COLORS,
    TASKS,
    Thing,
    colored,
    correct,
    fault,
    graded,
    judge,
    keep,
    overall,
    paint,
    relations,
)

RECORDED = json.loads((Path(__file__).parent / "data" / "geneval_verdicts.json").read_text())
CASES: list[dict[str, Any]] = RECORDED["cases"]


def things(case: dict[str, Any]) -> dict[str, list[Thing]]:
    return {
        name: [Thing(tuple(map(float, one["box"])), one["score"], one.get("color", "")) for one in some]
        for name, some in case["things"].items()
    }


def wanting(tag: str, *include: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tag": tag, "include": list(include), **more}


def one(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["claim"])
def test_our_verdicts_are_the_recorded_ones(case: dict[str, Any]) -> None:
    seen = keep(things(case), case["target"]["tag"])
    assert {name: [thing.score for thing in some] for name, some in seen.items()} == case["kept"]
    verdict = judge(seen, case["target"])
    assert (verdict.correct, verdict.strict) == (case["correct"], case["strict"])
    assert verdict.partial == pytest.approx(case["partial"], abs=1e-12)
    assert fault(case["target"]) == ""


def test_all_six_tasks_have_recorded_verdicts_of_both_kinds() -> None:
    both = {(tag, verdict) for tag in TASKS for verdict in (True, False)}
    for rule in ("correct", "strict"):
        assert {(case["target"]["tag"], case[rule]) for case in CASES} == both


@pytest.mark.parametrize("pair", RECORDED["relations"], ids=lambda pair: f"{pair['a']}-{pair['b']}")
def test_our_relations_are_the_recorded_ones(pair: dict[str, Any]) -> None:
    a, b = (Thing(tuple(map(float, pair[key])), 1.0) for key in "ab")
    assert sorted(relations(a, b)) == pair["relations"]
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relations(b, a) == {opposite[name] for name in pair["relations"]}


@pytest.mark.parametrize(("shift", "related"), [(119, False), (121, True), (239, True)])
def test_a_relation_needs_twice_the_slack_since_the_offset_is_divided_by_its_whole_length(
    shift: float, related: bool
) -> None:
    # Two boxes 300 wide side by side: slack 0.1 * 600 = 60, and (d - 60) / d > 1/2 only from d = 120 on.
    left, right = Thing((0, 0, 300, 60), 1), Thing((shift, 0, 300 + shift, 60), 1)
    assert relations(right, left) == ({"right of"} if related else set())


def test_a_small_thing_on_a_diagonal_has_two_relations() -> None:
    here, there = Thing((0, 0, 10, 10), 1), Thing((500, 500, 510, 510), 1)
    assert relations(there, here) == {"right of", "below"}


def test_more_objects_than_asked_are_allowed_by_the_benchmark_except_in_counting() -> None:
    four = {"bowl": [Thing((i, 0, i + 5, 5), 0.95) for i in range(4)]}
    plain, counting = (one("bowl", 3) for _ in range(2))
    assert correct(four, wanting("single_object", plain))
    assert not correct(four, wanting("counting", counting, exclude=[one("bowl", 4)]))
    assert graded(four, wanting("counting", counting)) == (False, pytest.approx(2 / 3))


def test_a_wrong_relation_costs_the_reward_a_quarter_and_not_a_third() -> None:
    # Parts 1 (laptop), 1 (cow), 0 and then 1 again for the relation: the server adds both.
    target = wanting("position", one("laptop"), one("cow", position=["right of", 0]))
    seen = {"laptop": [Thing((400, 0, 450, 50), 0.9)], "cow": [Thing((0, 0, 50, 50), 0.9)]}
    assert graded(seen, target) == (False, (1 + 1 + 0 + 1) / 4)


def test_only_things_whose_color_a_rule_can_ask_for_are_read() -> None:
    target = wanting("color_attr", one("cup", color="red"), one("fork"), one("bowl", 2, color="blue"))
    seen = {name: [Thing((0, 0, 9, 9), 0.9)] * 3 for name in ("cup", "fork", "bowl", "dog")}
    assert colored(target, seen) == [("cup", 0), ("bowl", 0), ("bowl", 1)]
    painted = paint(seen, {("cup", 0): "red", ("bowl", 0): "blue", ("bowl", 1): "blue"})
    assert [thing.color for thing in painted["bowl"]] == ["blue", "blue", ""]
    assert correct(painted, target) and not correct(seen, target)


def test_verdicts_do_not_depend_on_the_order_in_which_things_are_listed() -> None:
    rng = np.random.default_rng(0)
    for case in CASES:
        shuffled = {name: [some[i] for i in rng.permutation(len(some))] for name, some in things(case).items()}
        verdict = judge(keep(shuffled, case["target"]["tag"]), case["target"])
        if len({thing.score for some in shuffled.values() for thing in some}) == sum(map(len, shuffled.values())):
            assert (verdict.correct, verdict.strict) == (case["correct"], case["strict"])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"include": [one("cup")]}, "tag should be one of single_object"),
        (wanting("colors"), "list of objects, found []"),
        (wanting("colors", {"class": "cup"}), "a count of one or more"),
        (wanting("colors", one("cup", 0)), "a count of one or more"),
        (wanting("colors", one("cup", True)), "a count of one or more"),
        (wanting("colors", one("cup", color="teal")), "found 'teal'"),
        (wanting("position", one("cup", position=["right of", 0])), "an object before"),
        (wanting("position", one("cup"), one("dog", position=["behind", 0])), "found ['behind', 0]"),
        (wanting("position", one("cup"), one("dog", position="left of")), "found 'left of'"),
        (wanting("counting", one("cup"), exclude=["cup"]), "found 'cup'"),
    ],
)
def test_a_target_that_cannot_be_judged_is_told_why(target: dict[str, Any], said: str) -> None:
    assert said in fault(target)


def test_the_overall_score_weighs_tasks_and_not_images() -> None:
    # One counting picture at 0, three single objects at 1: task means 0 and 1.
    assert overall([0, 1, 1, 1], ["counting", *["single_object"] * 3]) == 0.5
    assert overall([0, 1, math.nan], ["counting", "colors", "colors"]) == 0.5
    with pytest.raises(ValueError, match="found none"):
        overall([math.nan], ["colors"])


def test_the_colors_are_upstreams_in_its_order() -> None:
    # The zero-shot choice is an argmax: on a tie the first wins.
    assert COLORS == ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
