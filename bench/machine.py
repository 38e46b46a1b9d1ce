"""What a run asks of the machine before it starts: memory, and how float32 products round."""

from __future__ import annotations

import psutil
import torch

from bench.architectures import ArchitectureError
from bench.config import Config
from bench.costs import Plan, plan
from bench.policy import PolicyError


def set_precision(tf32: bool) -> None:
    """Whether float32 products on a GPU may round their factors to TF32; of itself torch lets convolutions.

    The older of torch's two switches: accelerate knows it too, and one cannot be read after the other was set.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def free(device: torch.device) -> int:
    """Bytes that are free on a GPU, or on a CPU available to new processes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def check_memory(settings: Config, device: torch.device, ranks: int) -> None:
    """Whether the run's weights, trajectories and activations fit; the little world's always do on a CPU.

    Processes without a GPU share the memory of one machine. A pipeline of unknown architecture is not checked.

    Raises:
        PolicyError: they do not; the message has both figures and what to lower.
        RowError, ConfigError, PromptError: as `costs.plan`.
    """
    if device.type == "cpu" and settings.scale != "paper":
        return
    try:
        planned = plan(settings, gpus=ranks)
    except ArchitectureError:
        return
    wanted, found = planned.total("bytes_") * (ranks if device.type == "cpu" else 1), free(device)
    if wanted > found:
        raise PolicyError(_refusal(planned, device, wanted, found))


def _refusal(planned: Plan, device: torch.device, wanted: float, found: int) -> str:
    parts = {key.removeprefix("bytes_"): value for key, value in vars(planned).items() if key.startswith("bytes_")}
    largest = sorted(parts, key=lambda key: -parts[key])[:3]
    shown = ", ".join(f"{key} {parts[key] / 1e9:.1f}" for key in largest)
    blind = "" if device.type == "cuda" else "no GPU is visible, and "
    return (
        f"{blind}{planned.row} plans to hold {wanted / 1e9:.1f} GB on {device} (a process: {shown}) and "
        f"{found / 1e9:.1f} GB are free; lower optim.micro_batch or the backbone's dtype, set its checkpointing or "
        "embeddings, or share the run between more GPUs (bench.plan shows each figure)"
    )
