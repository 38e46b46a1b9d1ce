"""What the text encoders are taught to read."""

from __future__ import annotations

import pytest

from bench.tiny.grammar import all_prompts
from bench.tiny.reading import scene

PROMPTS = dict(all_prompts())


@pytest.mark.parametrize(
    ("prompt", "facts"),
    [
        ("a red circle", {"all 1 red", "all 1 circle"}),
        ("three blue squares", {"all 3 blue", "all 3 square"}),
        ("a red circle left of a blue square", {"left red", "left circle", "right blue", "right square"}),
        ("a blue square right of a red circle", {"left red", "left circle", "right blue", "right square"}),
        ("a red circle below a blue square", {"bottom red", "bottom circle", "top blue", "top square"}),
        ("a red circle and a blue square", {"first red", "first circle", "second blue", "second square"}),
        ('the text "K7"', {"letter 1 K", "letter 2 7"}),
    ],
)
def test_a_scene_is_what_stands_where(prompt: str, facts: set[str]) -> None:
    assert scene(PROMPTS[prompt]) == facts


def test_prompts_of_one_scene_are_each_others_mirror_and_no_others() -> None:
    by_scene: dict[frozenset[str], list[str]] = {}
    for prompt, target in PROMPTS.items():
        by_scene.setdefault(frozenset(scene(target)), []).append(prompt)
    for prompts in by_scene.values():
        relations = {(PROMPTS[prompt].get("relation") or "none") for prompt in prompts}
        assert relations in ({"none"}, {"left of", "right of"}, {"above", "below"})
        assert len(prompts) == len(relations)
