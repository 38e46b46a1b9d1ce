"""GenEval's rules as pure functions: from detected objects to a verdict.

Three verdicts, of two sources (both MIT): `correct` is the published benchmark's (djghosh13/geneval af4902f
evaluation/evaluate_images.py:76-258, 286-290); `strict` and `partial` are those of the reward server that flow_grpo
trains on (yifan123/reward-server 7131478 reward_server/gen_eval.py:201-264), `partial` being the reward itself. Their
oddities are kept, each named where it stands, because the numbers in the papers have them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# evaluate_images.py:286-290. Overlap 1.0 means that nothing is suppressed, so no suppression is written here.
THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
POSITION_THRESHOLD = 0.1
RULES = {
    "threshold": THRESHOLD,
    "counting_threshold": COUNTING_THRESHOLD,
    "max_objects": MAX_OBJECTS,
    "max_overlap": 1.0,
    "position_threshold": POSITION_THRESHOLD,
}

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

SHARE = 0.5  # evaluate_images.py:143-146: part of the offset that must lie along an axis
STILL = 1e-3  # evaluate_images.py:139: pixels below which centers count as equal


@dataclass(frozen=True)
class Thing:
    """A detected object.

    Attributes:
        box: left, top, right, bottom in pixels.
        score: the detector's confidence in [0, 1].
        color: one of `COLORS`; empty until somebody asked.
        mask: its pixels, bool (height, width) of the picture; the rules do without.
    """

    box: tuple[float, float, float, float]
    score: float
    color: str = ""
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)


Seen = Mapping[str, Sequence[Thing]]
"""The things of each class, the most confident first."""


@dataclass(frozen=True)
class Verdict:
    """What the three rules say of one picture."""

    correct: bool
    strict: bool
    partial: float


def keep(things: Seen, tag: str) -> dict[str, list[Thing]]:
    """The things that count for a task: above its threshold, the most confident first, 16 of a class at most."""
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    sure = {name: [thing for thing in some if thing.score > threshold] for name, some in things.items()}
    return {name: sorted(some, key=lambda thing: -thing.score)[:MAX_OBJECTS] for name, some in sure.items() if some}


def fault(target: Mapping[str, Any]) -> str:
    """Why a prompt's target cannot be judged; empty if it can."""
    if target.get("tag") not in TASKS:
        return f"tag should be one of {', '.join(TASKS)}, found {target.get('tag')!r}"
    wanted = target.get("include")
    if not isinstance(wanted, list) or not wanted:
        return f"include should be a list of objects, found {wanted!r}"
    for index, one in enumerate([*wanted, *(target.get("exclude") or [])]):
        if not isinstance(one, dict) or not isinstance(one.get("class"), str) or not _counts(one.get("count")):
            return f"an object should have a class and a count of one or more, found {one!r}"
        if one.get("color", COLORS[0]) not in COLORS:
            return f"color should be one of {', '.join(COLORS)}, found {one['color']!r}"
        if "position" in one and not _is_position(one["position"], before=index):
            return f"position should be a relation and the index of an object before, found {one['position']!r}"
    return ""


def _counts(count: object) -> bool:
    return type(count) is int and count >= 1


def _is_position(position: object, before: int) -> bool:
    if not isinstance(position, list | tuple) or len(position) != 2:
        return False
    relation, other = position
    return relation in RELATIONS and type(other) is int and 0 <= other < before


def colored(target: Mapping[str, Any], seen: Seen) -> list[tuple[str, int]]:
    """Which things' colors the rules look at: (class, index) each once."""
    asked = [one for one in target["include"] if "color" in one]
    looked_at = ((one["class"], min(one["count"], len(seen.get(one["class"], ())))) for one in asked)
    return list(dict.fromkeys((name, i) for name, count in looked_at for i in range(count)))


def paint(seen: Seen, colors: Mapping[tuple[str, int], str]) -> dict[str, list[Thing]]:
    """The same things with the colors of `colored` filled in."""
    return {
        name: [dataclasses.replace(thing, color=colors.get((name, i), thing.color)) for i, thing in enumerate(things)]
        for name, things in seen.items()
    }


def relations(a: Thing, b: Thing) -> set[str]:
    """Where `a` lies seen from `b`: none, one or two of `RELATIONS` (evaluate_images.py:128-147).

    A tenth of both sizes is taken off the offset between the centers, which is then divided by its length *before*
    that: wide neighbors that stand exactly beside each other can have no relation.
    """
    boxes = np.array([a.box, b.box], dtype=np.float64).reshape(2, 2, 2)
    offset = np.subtract(*boxes.mean(axis=1))
    slack = POSITION_THRESHOLD * abs(boxes[:, 1] - boxes[:, 0]).sum(axis=0)
    beyond = np.maximum(abs(offset) - slack, 0) * np.sign(offset)
    if (abs(beyond) < STILL).all():
        return set()
    right, down = (beyond / np.linalg.norm(offset)).tolist()
    shares = {"left of": -right, "right of": right, "above": -down, "below": down}
    return {name for name, share in shares.items() if share > SHARE}


def judge(seen: Seen, target: Mapping[str, Any]) -> Verdict:
    """All three verdicts on things that `keep` kept and `paint` painted."""
    return Verdict(correct(seen, target), *graded(seen, target))


def correct(seen: Seen, target: Mapping[str, Any]) -> bool:
    """The benchmark's verdict (evaluate_images.py:150-213).

    Only the `count` most confident things of a class are looked at: more are allowed unless `exclude` forbids them, as
    it does in counting alone. A relation must hold between all things of both groups; an object that failed is a group
    that nothing can be related to.
    """
    groups: list[Sequence[Thing] | None] = []
    for wanted in target["include"]:
        found = seen.get(wanted["class"], ())[: wanted["count"]]
        met = len(found) == wanted["count"]
        met = met and ("color" not in wanted or _of_color(found, wanted) == wanted["count"])
        met = met and ("position" not in wanted or _holds(found, groups, wanted))
        groups.append(found if met else None)
    forbidden = target.get("exclude") or ()
    return None not in groups and all(len(seen.get(one["class"], ())) < one["count"] for one in forbidden)


def graded(seen: Seen, target: Mapping[str, Any]) -> tuple[bool, float]:
    """The reward server's strict verdict and its reward, the mean of the parts (gen_eval.py:201-264).

    Counts must be equal, so `exclude` is not looked at. A part is 1 - |found - wanted| / wanted, which is below 0 from
    twice the count on.
    """
    groups: list[Sequence[Thing] | None] = []
    parts: list[float] = []
    for wanted in target["include"]:
        found = seen.get(wanted["class"], ())
        met, earned = _grade(found, groups, wanted)
        groups.append(found if met else None)
        parts += earned
    return None not in groups, sum(parts) / len(parts)


def _grade(found: Sequence[Thing], groups: list[Any], wanted: Mapping[str, Any]) -> tuple[bool, list[float]]:
    parts = [_part(len(found), wanted["count"])]
    if len(found) != wanted["count"]:
        return False, [*parts, 0.0] if "color" in wanted or "position" in wanted else parts
    if "color" in wanted:
        parts.append(_part(_of_color(found, wanted), wanted["count"]))
        if _of_color(found, wanted) != wanted["count"]:
            return False, parts  # a relation is then neither judged nor counted
    if "position" not in wanted:
        return True, parts
    met = _holds(found, groups, wanted)
    if groups[wanted["position"][1]] is None:
        return False, [*parts, 0.0]
    # gen_eval.py:254-258 adds the 1.0 of a relation that holds also after the 0.0 of one that does not.
    return met, [*parts, 1.0] if met else [*parts, 0.0, 1.0]


def _part(found: int, wanted: int) -> float:
    return 1 - abs(wanted - found) / wanted


def _of_color(found: Sequence[Thing], wanted: Mapping[str, Any]) -> int:
    return sum(thing.color == wanted["color"] for thing in found)


def _holds(found: Sequence[Thing], groups: list[Any], wanted: Mapping[str, Any]) -> bool:
    relation, other = wanted["position"]
    group = groups[other]
    return group is not None and all(relation in relations(a, b) for a in found for b in group)


def overall(values: Sequence[float], tags: Sequence[str]) -> float:
    """Mean of the tasks' means, each task of equal weight (summary_scores.py:36-45); NaN values are left out.

    Raises:
        ValueError: no value to average, or another number of tags than of values.
    """
    tasks: dict[str, list[float]] = {}
    for value, tag in zip(values, tags, strict=True):
        if not np.isnan(value):
            tasks.setdefault(tag, []).append(value)
    if not tasks:
        raise ValueError("wanted GenEval scores to average, found none")
    return float(np.mean([np.mean(each) for each in tasks.values()]))
