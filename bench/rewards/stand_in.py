"""What stands in for every judge and proxy where the weights are random and a score would mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gold_metrics.scorer import Entry, Picture, Score


class StandIn:
    """Mean brightness: some number that differs between images, without weights."""

    name = "stand_in"
    head = "Stand-in"
    higher_is_better = True
    range = (0.0, 1.0)
    per: Literal["image", "set"] = "image"

    @property
    def definition(self) -> dict[str, Any]:
        """All that the number depends on."""
        return {"scorer": self.name, "rule": "mean of all values / 255"}

    def fits(self, entry: Entry) -> bool:
        """Every image does."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """The brightness of each image."""
        return [Score(float(image.mean()) / 255) for image in images]
