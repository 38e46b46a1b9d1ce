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
    """The parameters' gradients, which they no longer have afterwards; zero where there was none.

    Shards stay apart; whole gradients are joined to one flat tensor, which is faster to sum.
    """
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return taken if sharded(taken) else [torch.cat([each.flatten() for each in taken])]


def put(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """The inverse of `take`."""
    if not sharded(parameters):
        parts = gradients[0].split([p.numel() for p in parameters])
        gradients = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
    for parameter, part in zip(parameters, gradients, strict=True):
        parameter.grad = part


def norm(gradients: Sequence[Tensor]) -> float:
    """The joint norm of what `take` gave, over the shards of all ranks where they are sharded."""
    return whole(torch.nn.utils.get_total_norm(gradients) if sharded(gradients) else gradients[0].norm()).item()


def clip(parameters: Sequence[Tensor], limit: float) -> float:
    """Scales the gradients of all ranks' parameters down to a joint norm of `limit`; returns the norm before."""
    return whole(torch.nn.utils.clip_grad_norm_(parameters, limit)).item()
