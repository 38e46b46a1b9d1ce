"""Gradients of many parameters, whole on every rank or sharded over the ranks as their parameters are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def sharded(parameters: Sequence[Tensor]) -> bool:
    """Whether each rank holds a part of every parameter (`Ranks.shard`), rather than all of them."""
    return isinstance(parameters[0], DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, for which every rank has to ask; another tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor on the parameter's device; this rank's shard of it where the parameter is sharded."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def take(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The parameters' gradients, which they no longer have afterwards; zero where there was none."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return taken


def joined(gradients: Sequence[Tensor]) -> Tensor:
    """All their elements, (N,)."""
    return torch.cat([each.flatten() for each in gradients])


def norm(gradients: Sequence[Tensor]) -> float:
    """Their joint norm, over the shards of all ranks where they are sharded."""
    if sharded(gradients):
        return whole(torch.nn.utils.get_total_norm(gradients)).item()
    return joined(gradients).norm().item()


def clip(parameters: Sequence[Tensor], limit: float) -> float:
    """Scales the gradients of all ranks' parameters down to a joint norm of `limit`; returns the norm before."""
    return whole(torch.nn.utils.clip_grad_norm_(parameters, limit)).item()
