"""The processes that share one run: who does which members, and how sums and lists come together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from bench import gradient
from bench.members import Member

T = TypeVar("T")
# Our choice, of words between ranks: the others wait while the first judges an evaluation. Sums keep torch's default,
# so that a rank that is lost in one ends the run soon.
PATIENCE = timedelta(hours=6)


class Ranks:
    """A group of processes started by torchrun; one process alone is a group of one.

    The logical batch does not know of it: a rank takes a run of whole trunks, and since noise is a function of
    coordinates, the number of ranks changes none of it.
    """

    def __init__(self) -> None:
        # Unasked, accelerate forms no group of processes that have only CPUs.
        self._accelerator = Accelerator(cpu=not torch.accelerator.is_available())
        self._words = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.count > 1 else None

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._accelerator.device

    @property
    def first(self) -> bool:
        """Whether this rank writes: only one does."""
        return bool(self._accelerator.is_main_process)

    @property
    def index(self) -> int:
        """This rank's number, from 0."""
        return int(self._accelerator.process_index)

    @property
    def count(self) -> int:
        """How many ranks there are."""
        return int(self._accelerator.num_processes)

    def share(self, members: list[Member], branches: int) -> list[Member]:
        """This rank's members, in order, cut between trunks of `branches`."""
        trunks = len(members) // branches
        start, end = (trunks * r // self.count * branches for r in (self.index, self.index + 1))
        return members[start:end]

    def decide(self, question: Callable[[], T]) -> T:
        """The first rank's answer, on every rank; what it raises, every rank raises, so that none is left waiting."""
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = question()
            except Exception as error:
                answer[1] = error
        if self.count > 1:
            distributed.broadcast_object_list(answer, src=0, group=self._words)
        if answer[1] is not None:
            raise answer[1]
        decided: T = answer[0]
        return decided

    def attempt(self, work: Callable[[], T]) -> T:
        """Does `work` on every rank; what one rank raises, every rank raises, so that none is left waiting."""
        error, done = None, list[T]()
        try:
            done.append(work())
        except Exception as caught:
            error = caught
        for raised in self.gather([error]):
            if raised is not None:
                raise raised
        return done[0]

    def gather(self, items: list[T]) -> list[T]:
        """The ranks' lists, one after the other, on every rank."""
        if self.count == 1:
            return items
        lists: list[Any] = [[]] * self.count
        distributed.all_gather_object(lists, items, group=self._words)
        return [item for each in lists for item in each]

    def collect(self, items: list[T]) -> list[T]:
        """The ranks' lists, one after the other, on the first rank; nothing on the others."""
        if self.count == 1:
            return items
        lists: list[Any] = [[]] * self.count
        distributed.gather_object(items, lists if self.first else None, dst=0, group=self._words)
        return [item for each in lists for item in each]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        if self.count == 1:
            return value
        total: Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def sum_gradient(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the parameters as `gradient.take` gives them, summed over ranks.

        Shards hold the sum already: it was made in the backward pass, where each rank kept its own part.
        """
        taken = gradient.take(parameters)
        return taken if gradient.sharded(parameters) else [self.sum(part) for part in taken]

    def idle(self, passes: int, parameters: Sequence[Tensor]) -> int:
        """How many passes more than this rank's some rank makes, which this one has to join where weights are sharded.

        Every pass of a sharded transformer gathers weights from all ranks.
        """
        return max(self.gather([passes])) - passes if gradient.sharded(parameters) else 0

    def shard(self, transformer: torch.nn.Module, dtype: torch.dtype) -> None:
        """Cuts the float32 weights over the ranks, to be gathered block by block and computed with in `dtype`.

        A rank's gradients are then sums over ranks. One rank keeps its weights as they are.
        """
        if self.count == 1:
            return
        mesh = init_device_mesh(self.device.type, (self.count,))
        # Inputs stay as they are, as without shards: rotary angles and times would lose bits.
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        # Flux's blocks return slices, and nothing writes to them in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        lists = [child for child in transformer.children() if isinstance(child, torch.nn.ModuleList)]
        for module in [*(block for blocks in lists for block in blocks), transformer]:
            # Resharded also at the root: what a rollout leaves gathered would not be the parameters of an update.
            part: FSDPModule = fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)  # type: ignore[assignment]
            # Sums, as for an adapter, and not means; gloo has no scaled sum.
            part.set_force_sum_reduction_for_comms(True)
            part.set_gradient_divide_factor(1.0)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.count > 1:
            distributed.barrier(group=self._words)
