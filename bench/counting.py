"""What one image costs a pipeline: operations and kept activations, counted on the meta device and not typed in.

Diffusers' and transformers' own forwards run on tensors without memory while torch counts. Attention is counted as the
fused kernel that a GPU runs, whose backward computes the scores a second time: 5 products for the forward's 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from bench import architectures
from bench.architectures import build, parameters, parts

# Only after bench.architectures, which makes diffusers importable beside a CPU build of torch.
from peft import LoraConfig  # isort: skip

T = TypeVar("T")
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """All that the cost of one image depends on: a backbone's settings, with `targets` the adapter's layers."""

    weights: str
    resolution: int
    text_tokens: int
    rank: int
    targets: tuple[str, ...]
    dtype: str = "float32"
    checkpointing: bool = False


@dataclass(frozen=True)
class Counts:
    """Costs of one row of a batch.

    Attributes:
        parameters, trainable: of the frozen transformer, and of its adapter.
        distilled: whether guidance is an input, so that it costs no second forward.
        forward, backward: operations of the transformer with its adapter; forward without gradient costs the same.
        decode, encode: operations of decoding one image, and of embedding one prompt.
        kept: bytes that the forward leaves for its backward.
        latent, embedding: numbers in a latent, D, and in a prompt's embeddings.
        autoencoder, encoders: their parameters.
    """

    parameters: int
    trainable: int
    distilled: bool
    forward: int
    backward: int
    decode: int
    encode: int
    kept: int
    latent: int
    embedding: int
    autoencoder: int
    encoders: int


class _FusedAttention(TorchFunctionMode):
    """Where attention has no mask, the kernel of a GPU stands in for the meta device's unfused one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and kwargs.get("attn_mask") is None:
            query, key, value = (*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            causal = kwargs.get("is_causal", False)
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal)[0]
        return func(*args, **kwargs)


def operations(work: Callable[[], T]) -> tuple[int, T]:
    """Floating-point operations of `work`, a multiply-add as two, and what it gave."""
    with _FusedAttention(), FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops(), result


def inputs(shape: Shape, rows: int = 1) -> Inputs:
    """What the transformer reads for `rows` images of a shape: latents, time, embeddings, on the meta device."""
    known = parts(shape.weights)
    config, dtype = known["transformer"].config, getattr(torch, shape.dtype)
    side = _latent_side(shape)
    packed = "axes_dims_rope" in config  # Flux: 2x2 patches are cut before the transformer and have positions
    text = shape.text_tokens + (0 if packed else _clip_tokens(shape.weights))  # SD3 puts CLIP's before T5's

    def empty(*size: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty(*size, dtype=kind, device="meta")

    given: Inputs = {
        "hidden_states": empty(rows, config["in_channels"], side, side),
        "timestep": empty(rows, kind=torch.float32),
        "encoder_hidden_states": empty(rows, text, config["joint_attention_dim"]),
        "pooled_projections": empty(rows, config["pooled_projection_dim"]),
        "return_dict": False,
    }
    if packed:
        image = (side // 2) ** 2
        given["hidden_states"] = empty(rows, image, config["in_channels"])
        given |= {"img_ids": empty(image, 3), "txt_ids": empty(text, 3)}
    if config.get("guidance_embeds"):
        given["guidance"] = empty(rows, kind=torch.float32)
    return given


def _latent_side(shape: Shape) -> int:
    blocks = parts(shape.weights)["vae"].config["block_out_channels"]
    factor = 2 ** (len(blocks) - 1)
    if shape.resolution % (2 * factor):
        raise architectures.ArchitectureError(
            f"resolution must be a multiple of {2 * factor} for this autoencoder, not {shape.resolution}"
        )
    return shape.resolution // factor


def _clip_tokens(weights: str) -> int:
    return int(parts(weights)["text_encoder"].config["max_position_embeddings"])


def with_adapter(shape: Shape) -> nn.Module:
    """The frozen transformer in its dtype with the float32 adapter of `Policy.add_lora`, on the meta device."""
    network: Any = build(shape.weights).requires_grad_(False)
    nn.Module.to(network, getattr(torch, shape.dtype))  # diffusers' own `to` advises against itself at every call
    settings = LoraConfig(r=shape.rank, init_lora_weights="gaussian", target_modules=list(shape.targets))
    with torch.device("meta"):
        network.add_adapter(settings)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return network


def kept_bytes(network: nn.Module, work: Callable[[], T]) -> tuple[int, T]:
    """Bytes that autograd keeps for the backward of `work` beside the network's own parameters, and its result."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # several views of one storage are kept once
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), result


def checkpointed(network: Any, given: Inputs, forward: int, backward: int, kept: int) -> tuple[int, int]:
    """(backward, kept) where only the inputs of blocks are kept: one forward more, and one block's activations."""
    network.enable_gradient_checkpointing()
    blocks = len(network.transformer_blocks) + len(getattr(network, "single_transformer_blocks", ()))
    entrances, _ = kept_bytes(network, lambda: network(**given)[0])
    return backward + forward, entrances + kept // blocks


@functools.cache
def count(shape: Shape) -> Counts:
    """Counts one image's costs; some seconds for the full-size pipelines, no memory, no download.

    Raises:
        ArchitectureError: no such pipeline, or a resolution that its autoencoder cannot take.
    """
    given = inputs(shape)
    network = with_adapter(shape)
    forward, (kept, out) = operations(lambda: kept_bytes(network, lambda: network(**given)[0]))
    backward, _ = operations(lambda: out.float().sum().backward())
    if shape.checkpointing:
        backward, kept = checkpointed(network, given, forward, backward, kept)
    trainable = parameters(network, trainable=True)
    known = parts(shape.weights)
    encoders = [name for name in known if name.startswith("text_encoder")]
    return Counts(
        parameters=parameters(network) - trainable,
        trainable=trainable,
        distilled="axes_dims_rope" in known["transformer"].config,
        forward=forward,
        backward=backward,
        decode=_decoding(shape),
        encode=sum(_encoding(shape, name) for name in encoders),
        kept=kept,
        latent=given["hidden_states"].numel(),
        embedding=given["encoder_hidden_states"].numel() + given["pooled_projections"].numel(),
        autoencoder=parameters(build(shape.weights, "vae")),
        encoders=sum(parameters(build(shape.weights, name)) for name in encoders),
    )


def trained_whole(costs: Counts) -> Counts:
    """The costs where every weight is trained: their gradients take as many operations as the forward."""
    return replace(costs, parameters=0, trainable=costs.parameters, backward=costs.backward + costs.forward)


@torch.no_grad()
def _decoding(shape: Shape) -> int:
    autoencoder: Any = build(shape.weights, "vae")
    side = _latent_side(shape)
    latent = torch.empty(1, autoencoder.config.latent_channels, side, side, device="meta")
    return operations(lambda: autoencoder.decode(latent))[0]


@torch.no_grad()
def _encoding(shape: Shape, name: str) -> int:
    encoder = build(shape.weights, name)
    length = parts(shape.weights)[name].config.get("max_position_embeddings", shape.text_tokens)  # T5 has none
    return operations(lambda: encoder(torch.zeros(1, length, dtype=torch.long, device="meta")))[0]
