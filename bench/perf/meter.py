"""Time, memory and the peak that a machine reaches: what the stages and the comparison are measured with.

On a GPU a second is one of the wall clock, up to the end of what was launched. On a CPU it is one of processor time,
all threads together: other work on the machine then counts for less, and a share of the peak is one of a core's.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.provenance import PACKAGES, git_commit

SIDE = {"cpu": 1024, "cuda": 8192}  # our choice: large enough that a product of such matrices reaches the peak
PRODUCTS = 10  # our choice


@dataclass(frozen=True)
class Clock:
    """Seconds and memory of work on a device."""

    device: torch.device

    def now(self) -> float:
        """Seconds, as the module says, from some beginning."""
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call of `work`."""
        began = self.now()
        work()
        return self.now() - began

    def typical(self, work: Callable[[], Any], repeats: int) -> float:
        """The median of `repeats` calls, after one that is not counted."""
        work()
        return median(self.seconds(work) for _ in range(repeats))

    def forget_peak(self) -> None:
        """Lets `peak_bytes` begin anew, which only a GPU can."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int:
        """The most memory held: on a GPU by tensors since `forget_peak`, on a CPU by the process since its start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        unit = 1 if platform.system() == "Darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_peak(clock: Clock, dtype: torch.dtype) -> float:
    """FLOP per second of products of square random matrices of `dtype`, the fastest of several; zeros cost less."""
    side = SIDE.get(clock.device.type, SIDE["cpu"])
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, side, generator=generator).to(clock.device, dtype) for _ in range(2))
    clock.seconds(lambda: left @ right)
    return 2 * side**3 / min(clock.seconds(lambda: left @ right) for _ in range(PRODUCTS))


def machine(device: torch.device) -> dict[str, Any]:
    """Where and with what it was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    versions = {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}
    return {"device": name, "threads": torch.get_num_threads(), "git_commit": git_commit(), "versions": versions}


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
