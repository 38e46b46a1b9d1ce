"""Are the right objects or letters there? An exact oracle of the little world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from gold_metrics import tiny_parts
from gold_metrics.scorer import Entry, Picture, Score, missing
from gold_metrics.tiny_parts import Thing
from gold_metrics.tiny_world import Segmentation, World, belongs, segment, shipped, unusable


class Correctness:
    """Share of what the target asks for that the picture shows; 1.0 exactly when all is right and nothing is extra.

    Objects (GenEval's categories, its strict count): each wanted thing earns 1 for the right color and shape, 1/2 for
    one of the two; a relation earns 1 if the centers of the two right things keep it by more than they differ across
    it. Text: letters in their order (longest common subsequence). The sum is divided by what was wanted or by what was
    found, whichever is more, so that extra things cost.
    """

    name: ClassVar[str] = "correctness"
    head: ClassVar[str] = "Correctness"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(self, world: World | None = None) -> None:
        self.world = world or shipped()

    @property
    def definition(self) -> dict[str, Any]:
        """Version, thresholds and the world's data file."""
        return {"scorer": self.name, "version": 1, "world": self.world.sha256, **tiny_parts.THRESHOLDS}

    def fits(self, entry: Entry) -> bool:
        """Whether the entry is of the little world."""
        return belongs(entry)

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores in [0, 1]; NaN for an entry without a target."""
        return [self._score(image, entry) for image, entry in zip(images, entries, strict=True)]

    def _score(self, image: Picture, entry: Entry) -> Score:
        if entry.target is None or unusable(entry):
            return missing(unusable(entry))
        seen = segment(image, self.world)
        judged = self._text if entry.target["family"] == "text" else self._objects
        return Score(judged(seen, entry.target))

    def _objects(self, seen: Segmentation, target: dict[str, Any]) -> float:
        kinds, found = tiny_parts.wanted(target), tiny_parts.things(seen, self.world)
        chosen = tiny_parts.assign(kinds, found)
        earned = sum(credit for _, credit in chosen)
        relation = target["relation"]
        if relation is None:
            return earned / max(len(kinds), len(found))
        both = [thing for thing, credit in chosen if thing is not None and credit == 1]
        return (earned + (len(both) == 2 and holds(relation, *both))) / (1 + max(len(kinds), len(found)))

    def _text(self, seen: Segmentation, target: dict[str, Any]) -> float:
        letters, unread = tiny_parts.letters(seen, self.world)
        painted = tiny_parts.colored_patches(seen, self.world)
        read, text = "".join(letter.letter for letter in letters), target["text"]
        return common_in_order(read, text) / max(len(text), len(read) + unread + painted)


def holds(relation: str, first: Thing, second: Thing) -> bool:
    """Whether the first thing is left of, right of, above or below the second, mainly."""
    right, down = second.x - first.x, second.y - first.y
    ahead, across = {
        "left of": (right, down),
        "right of": (-right, down),
        "above": (down, right),
        "below": (-down, right),
    }[relation]
    return ahead > abs(across)


def common_in_order(one: str, other: str) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for letter in one:
        diagonal = 0
        for i, mark in enumerate(other, 1):
            diagonal, row[i] = row[i], diagonal + 1 if letter == mark else max(row[i], row[i - 1])
    return row[-1]
