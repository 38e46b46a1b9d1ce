"""What is made of a study once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Made = TypeVar("Made")


class Same:
    """A key that is equal to itself alone, so that what cannot be hashed can be remembered."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing


def once(make: Callable[[Any], Made]) -> Callable[[Any], Made]:
    """`make`, which keeps what it made of the last four studies; nobody may change that."""
    kept = lru_cache(maxsize=4)(lambda same: make(same.thing))

    @wraps(make)
    def made(study: Any) -> Made:
        return kept(Same(study))

    return made
