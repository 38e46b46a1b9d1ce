"""Gradients of many parameters as one flat tensor, of this rank's shards where parameters are sharded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def sharded(parameters: Sequence[Tensor]) -> bool:
    """Whether each rank holds a part of every parameter (`Ranks.shard`), rather than all of them."""
    return isinstance(parameters[0], DTensor)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; another tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, for which every rank has to ask; another tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor on the parameter's device; this rank's shard of it where the parameter is sharded."""
    value = value.to(local(parameter).device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def zeros(parameters: Sequence[Tensor]) -> Tensor:
    """A flat gradient of zeros, (N,)."""
    return torch.zeros(sum(local(p).numel() for p in parameters), device=local(parameters[0]).device)


def take(parameters: Sequence[Tensor]) -> Tensor:
    """The parameters' gradients, (N,), which they no longer have afterwards; zero where there was none."""
    grads = [torch.zeros_like(local(p)) if p.grad is None else local(p.grad) for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    for p in parameters:
        p.grad = None
    return flat


def put(parameters: Sequence[Tensor], flat: Tensor) -> None:
    """The inverse of `take`."""
    for p, part in zip(parameters, flat.split([local(p).numel() for p in parameters]), strict=True):
        found = part.view_as(local(p)).clone()
        if isinstance(p, DTensor):
            found = DTensor.from_local(found, p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
        p.grad = found


def clip(parameters: Sequence[Tensor], limit: float) -> float:
    """Scales the gradients of all ranks' parameters down to a joint norm of `limit`; returns the norm before."""
    return whole(torch.nn.utils.clip_grad_norm_(parameters, limit)).item()
