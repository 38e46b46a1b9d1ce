"""The members of an epoch's groups: who they are and how they are cut into micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.prompts import Prompt


@dataclass(frozen=True)
class Member:
    """One member of a group.

    Attributes:
        prompt, row: its prompt, and that prompt's row among the epoch's.
        index: its number within the group.
        position: its number within the epoch.
    """

    prompt: Prompt
    row: int
    index: int
    position: int


def members_of(prompts: Sequence[Prompt], group: int) -> list[Member]:
    """The members of an epoch: `group` for each prompt, adjacent."""
    pairs = [(row, prompt, index) for row, prompt in enumerate(prompts) for index in range(group)]
    return [Member(prompt, row, index, position) for position, (row, prompt, index) in enumerate(pairs)]


def micro_batches(members: list[Member], size: int, branches: int) -> list[list[Member]]:
    """Slices of at most `size` members that cut no trunk: a multiple of `branches`, at least one trunk."""
    size = max(branches, size // branches * branches)
    return [members[start : start + size] for start in range(0, len(members), size)]
