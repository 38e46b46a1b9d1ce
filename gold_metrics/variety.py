"""Do a prompt's pictures differ as much as the renderer's own would? An exact oracle of the little world."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from gold_metrics import tiny_parts
from gold_metrics.scorer import Entry, Picture, Score, by_prompt, missing
from gold_metrics.tiny_parts import Thing
from gold_metrics.tiny_world import Array, Segmentation, World, belongs, segment, shipped, unusable

# Our choices: what a decoder or noise changes without anyone having meant it, in pixels of place and of radius.
UNSEEN_PLACE = 0.5
UNSEEN_SIZE = 0.15

# Our choice: a fifth of the 123 units between the two nearest backgrounds.
BACKGROUND_ERROR = 23.0

# Our choice: a pixel of radius counts as a tenth of a pixel of distance where things are paired.
SIZE_SHARE = 0.1

ASPECTS = ("background", "place", "size")


class Variety:
    """Mean over background, place and size of the pictures' spread, as a share of the renderer's.

    The spread of an aspect is the mean difference of two pictures of the set: whether their backgrounds differ, by how
    many pixels their things lie apart and differ in radius. It is divided by the lower quartile of the renderer's own
    spread for that category and set size, and capped at 1: a real set scores 1 as a rule. Pictures that show none of
    the target's things differ from nothing. Sets of two or three pictures are judged leniently: their real spread
    varies widely.
    """

    name: ClassVar[str] = "variety"
    head: ClassVar[str] = "Variety"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    per: ClassVar[Literal["image", "set"]] = "set"

    def __init__(self, world: World | None = None) -> None:
        self.world = world or shipped()

    @property
    def definition(self) -> dict[str, Any]:
        """Version, constants and the world's data file."""
        return {
            "scorer": self.name,
            "version": 1,
            "world": self.world.sha256,
            "unseen": [UNSEEN_PLACE, UNSEEN_SIZE],
            "size_share": SIZE_SHARE,
            "background_error": BACKGROUND_ERROR,
            **tiny_parts.THRESHOLDS,
        }

    def fits(self, entry: Entry) -> bool:
        """Whether the entry is of the little world."""
        return belongs(entry)

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """A score in [0, 1] per prompt; NaN for a prompt without a target or with a single picture."""
        groups = by_prompt(entries).values()
        return [self._score([images[i] for i in group], entries[group[0]]) for group in groups]

    def _score(self, images: Sequence[Picture], entry: Entry) -> Score:
        if entry.target is None or unusable(entry):
            return missing(unusable(entry))
        if len(images) < 2:
            return missing("variety needs at least two pictures of a prompt, found one")
        pairs = np.triu_indices(len(images), 1)
        spread = {aspect: float(d[pairs].mean()) for aspect, d in differences(images, entry.target, self.world).items()}
        shares = [
            min(1.0, spread[aspect] / own)
            for aspect, own in self._own_spread(entry.target["category"], len(images)).items()
            if own > 0
        ]
        return Score(float(np.mean(shares)))

    def _own_spread(self, category: str, size: int) -> dict[str, float]:
        """The renderer's spread per aspect, for the largest measured set size that is not above `size`."""
        statistics = self.world.statistics["spread"]
        column = bisect.bisect_right(statistics["set_sizes"], size) - 1
        return {aspect: statistics[category][aspect][column] for aspect in ASPECTS}


def differences(images: Sequence[Picture], target: dict[str, Any], world: World) -> dict[str, Array]:
    """How much each two pictures of a target differ: (N, N) per aspect; 0 and 1 for background, pixels for the others.

    Things of the same color and shape are paired between two pictures so that they lie nearest. A thing that one of the
    two does not show adds nothing; of a text the middle of its letters counts, and its size is fixed.
    """
    seen = [segment(image, world) for image in images]
    layouts = np.array([_layout(each, target, world) for each in seen])
    shown = ~np.isnan(layouts).any(axis=2).all(axis=1)
    background = np.array([each.background for each in seen])
    known = shown & np.array([each.background_error <= BACKGROUND_ERROR for each in seen])
    place, size = _nearest(layouts, _exchanges(target))
    return {
        "background": ((background[:, None] != background) & known & known[:, None]).astype(np.float64),
        "place": place,
        "size": size,
    }


def _layout(seen: Segmentation, target: dict[str, Any], world: World) -> Array:
    """x, y and radius of each of the target's K things, (K, 3); NaN where the picture does not show it.

    The radius is the area's, given the shape: a wrong shape, which is larger or smaller, is no other size.
    """
    absent = (np.nan,) * 3
    if target["family"] == "text":
        letters, _ = tiny_parts.letters(seen, world)
        if len(letters) != len(target["text"]):
            return np.array([absent])
        return np.array([(*np.mean([(letter.x, letter.y) for letter in letters], axis=0), 0.0)])
    found = [thing for thing in tiny_parts.things(seen, world) if thing.shape]
    chosen = tiny_parts.assign(tiny_parts.wanted(target), found)
    return np.array([absent if thing is None else _place(thing, world) for thing, _ in chosen])


def _place(thing: Thing, world: World) -> tuple[float, float, float]:
    return thing.x, thing.y, thing.size / world.unit_sizes[thing.shape]


def _exchanges(target: dict[str, Any]) -> list[tuple[int, ...]]:
    """The orders of the target's things that put each kind where the same kind stood."""
    kinds = tiny_parts.wanted(target) if target["family"] == "objects" else [("", "")]
    orders = itertools.permutations(range(len(kinds)))
    return [order for order in orders if [kinds[i] for i in order] == kinds]


def _nearest(layouts: Array, orders: Sequence[tuple[int, ...]]) -> tuple[Array, Array]:
    """Mean distance in place and in size of each two layouts, (N, N) both, under the order that brings them nearest.

    The size breaks ties between orders: on a grid of places many are equally near, and noise should not choose.
    """
    apart = np.array([layouts[:, None] - layouts[:, order] for order in orders])
    place = _felt(np.hypot(apart[..., 0], apart[..., 1]), UNSEEN_PLACE)
    size = _felt(abs(apart[..., 2]), UNSEEN_SIZE)
    nearest = (place + SIZE_SHARE * size).argmin(axis=0)[None]
    return np.take_along_axis(place, nearest, 0)[0], np.take_along_axis(size, nearest, 0)[0]


def _felt(distance: Array, unseen: float) -> Array:
    """Distances beyond what goes unseen, averaged over the things; things that are not shown count as not moved."""
    felt: Array = np.maximum(np.nan_to_num(distance) - unseen, 0).mean(axis=-1)
    return felt
