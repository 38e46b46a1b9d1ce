"""GPUs, their driver and torch's build for them, words between processes, and memory against the plan."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import distributed

from bench import machine
from bench.architectures import ArchitectureError
from bench.config import Config
from bench.costs import Plan, plan
from bench.doctor.finding import Finding, failed, ok, warning
from bench.space import size

INTERFACE = {
    "gloo": "set GLOO_SOCKET_IFNAME to an interface of `ip link`",
    "nccl": "install torch's build for CUDA; NCCL_DEBUG=INFO says more",
}
PATIENCE = 30  # seconds, our choice: a driver or a group that has not answered by then will not


def gpus(wanted: int) -> Finding:
    """Whether there are as many as `wanted`, which torch can use."""
    build = f"torch {torch.__version__} " + (f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA")
    driver, count = _driver(), torch.cuda.device_count()
    if driver and not torch.version.cuda:
        return failed(
            f"driver {driver}, and {build}", "install torch's build for CUDA (pytorch.org), or run on the CPU"
        )
    if driver and not count:
        return failed(f"driver {driver}, {build}, and torch sees no GPU: {_refusal()}", "see nvidia-smi")
    if count < wanted:
        found = f"{count} GPUs, wanted {wanted}" if count else "no GPU"
        return failed(f"{found} ({build})", "choose another machine, or --gpus with how many share a run")
    if not count:
        return ok(f"none, none needed ({build})")
    names = sorted({torch.cuda.get_device_name(index) for index in range(count)})
    return ok(f"{count} x {', '.join(names)}, driver {driver}, {build}")


def _driver() -> str:
    """The driver's version; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def _refusal() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0]
    return "CUDA_VISIBLE_DEVICES may hide it"


def group(backend: str, device: str) -> Finding:
    """Whether a group of one process can sum: the library is there, and finds an interface to listen on."""
    try:
        distributed.init_process_group(
            backend, store=distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=PATIENCE)
        )
        try:
            value = torch.ones(1, device=device)
            distributed.all_reduce(value)
            assert value.item() == 1, f"a sum of one process is {value.item()}, not 1"
        finally:
            distributed.destroy_process_group()
    except (RuntimeError, ValueError, AssertionError) as error:
        return failed(str(error).partition("\n")[0], INTERFACE[backend])
    return ok("a group of one process sums")


def memory(rows: Sequence[Config], gpus: int) -> Finding:
    """Whether the largest row fits, on each GPU; on a CPU beside the other ranks. The judges' memory is not in it."""
    needed, row = max((_held(settings, gpus), settings.row) for settings in rows)
    if not needed:
        return ok("what a pipeline of unknown architecture holds is left to try")
    devices = [torch.device("cuda", index) for index in range(min(gpus, torch.cuda.device_count()))]
    text = f"{row} plans to hold {size(needed)}"
    if gpus and not devices:
        return failed(f"{text} on a GPU, and there is none", "see the line of GPU")
    free = min(machine.free(device) for device in devices or [torch.device("cpu")])
    text = f"{text}, {size(free)} are free" + " on the GPU with least" * bool(devices)
    if needed > free:
        return failed(text, "lower optim.micro_batch, set the backbone's checkpointing or embeddings, or share the run")
    return ok(text)


def host_memory(rows: Sequence[Config], gpus: int) -> Finding:
    """Whether the host holds what each process reads before its GPU has it."""
    needed = max(gpus * planned.bytes_weights for settings in rows if (planned := _plan(settings, gpus)))
    free = machine.free(torch.device("cpu"))
    text = f"{gpus} processes read up to {size(needed)} of weights, {size(free)} are free on the host"
    return warning(text, "ask for more memory (--mem)") if needed > free else ok(text)


def _plan(settings: Config, gpus: int) -> Plan | None:
    """The row's plan; None for a pipeline of unknown architecture, which is left to try."""
    try:
        return plan(settings, gpus=max(gpus, 1))
    except ArchitectureError:
        return None


def _held(settings: Config, gpus: int) -> float:
    planned = _plan(settings, gpus)
    return planned.total("bytes_") if planned else 0
