"""The processes that share one run: who does which members, and how sums and lists come together."""

from __future__ import annotations

from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from bench.rollout import Member

T = TypeVar("T")


class Ranks:
    """A group of processes started by torchrun or srun; one process alone is a group of one.

    The logical batch does not know of it: a rank takes a run of whole trunks, and since noise is a function of
    coordinates, the number of ranks changes none of it.
    """

    def __init__(self) -> None:
        self._accelerator = Accelerator()

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._accelerator.device

    @property
    def first(self) -> bool:
        """Whether this rank writes: only one does."""
        return bool(self._accelerator.is_main_process)

    def share(self, members: list[Member], branches: int) -> list[Member]:
        """This rank's members, in order, cut between trunks of `branches`."""
        trunks = len(members) // branches
        count, rank = self._accelerator.num_processes, self._accelerator.process_index
        start, end = (trunks * r // count * branches for r in (rank, rank + 1))
        return members[start:end]

    def gather(self, items: list[T]) -> list[T]:
        """The ranks' lists, one after the other, on every rank."""
        if self._accelerator.num_processes == 1:
            return items
        gathered: list[T] = gather_object(items)
        return gathered

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        total: Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def wait(self) -> None:
        """Until every rank is here."""
        self._accelerator.wait_for_everyone()
