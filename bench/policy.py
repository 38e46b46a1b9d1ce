"""The image generator as a policy: prompt embeddings, velocity, decoding. SD3 and Flux are in sd3.py and flux.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from bench.hub import fingerprint, refusal
from gold_metrics.torchvision_repair import repair

repair()

from diffusers import DiffusionPipeline  # noqa: E402
from huggingface_hub import errors  # noqa: E402
from peft import LoraConfig  # noqa: E402
from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: E402

__all__ = ["DECODE_CHUNK", "Conditioning", "Policy", "PolicyError", "fingerprint", "load"]
POLICIES = {"StableDiffusion3Pipeline": "bench.sd3:SD3Policy", "FluxPipeline": "bench.flux:FluxPolicy"}
ENCODING = ("text_encoder", "tokenizer")  # how the parts of a pipeline that make its embeddings are named
DECODE_CHUNK = 64  # images at once, and
DECODE_PIXELS = 16 * 512**2  # pixels: SD3.5-M's autoencoder holds 0.8 GB of float32 for each image of 512 pixels
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Of a float16 backward pass, whose smallest number is 6e-8 where a mean over 65,536 latent elements begins at 1e-5:
# what torch.amp.GradScaler, and so flow_grpo's mixed precision, starts from. A power of two rounds nothing.
FLOAT16_GRADIENT_SCALE = 2.0**16


class PolicyError(ValueError):
    """The weights cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class Conditioning:
    """Prompt embeddings, one row a prompt: `tokens` (n, L, J) and `pooled` (n, E)."""

    tokens: Tensor
    pooled: Tensor

    def rows(self, index: Tensor) -> Conditioning:
        """The embeddings of the rows in `index`, a LongTensor of any length."""
        return Conditioning(self.tokens[index], self.pooled[index])


class Policy(ABC):
    """A flow-matching pipeline whose transformer is trained.

    Latents are float32 of shape (B, *latent_shape) in the layout that the transformer reads; `time` is the flow time
    in [0, 1]; the velocity points from image to noise. `dtype` is that of the frozen transformer and text encoders;
    the adapter and all that a rollout records are float32.
    """

    distilled_guidance: bool  # whether the guidance scale is an input of the transformer
    rows: int | None = None  # if set, every forward has just so many: in half precision means depend on the batch shape
    stored: Callable[[list[str]], Conditioning] | None = None  # embeddings made earlier (`bench.embeddings`)

    def __init__(
        self, pipe: Any, resolution: int, text_tokens: int, guidance: float, *, cfg_detach: bool = False
    ) -> None:
        factor = pipe.vae_scale_factor * 2  # both backbones cut the latent into 2x2 patches
        if resolution <= 0 or resolution % factor:
            raise PolicyError(f"resolution must be a multiple of {factor} for this autoencoder, not {resolution}")
        self.pipe, self.resolution, self.text_tokens, self.guidance = pipe, resolution, text_tokens, guidance
        self.cfg_detach, self.transformer, self.dtype = cfg_detach, pipe.transformer, pipe.transformer.dtype
        self.gradient_scale = FLOAT16_GRADIENT_SCALE if self.dtype == torch.float16 else 1.0
        for module in (pipe.vae, pipe.transformer, *self.text_encoders()):
            module.requires_grad_(False).eval()

    def text_encoders(self) -> list[torch.nn.Module]:
        """The pipeline's text encoders, in the pipeline's order; frozen."""
        return [m for name, m in self.pipe.components.items() if name.startswith("text_encoder") and m is not None]

    def add_lora(self, rank: int, alpha: int, targets: list[str], seed: int) -> tuple[list[str], list[Tensor]]:
        """Adds a trainable float32 adapter; returns its parameters' names and the parameters, in one order.

        Gaussian start as flow_grpo train_sd3.py:417-436; the same for every method of a seed.
        """
        torch.manual_seed(seed)
        settings = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=targets)
        self.transformer.add_adapter(settings)
        found = {n: p for n, p in self.transformer.named_parameters() if p.requires_grad}
        for parameter in found.values():
            parameter.data = parameter.data.float()
            if self.gradient_scale != 1:
                parameter.register_hook(self._unscaled)
        return list(found), list(found.values())

    def unfreeze(self, dtype: torch.dtype) -> tuple[list[str], list[Tensor]]:
        """Makes all of the float32 transformer trainable, computed with in `dtype`; returns as `add_lora` does."""
        self.dtype, self.gradient_scale = dtype, 1.0
        self.transformer.requires_grad_(True)
        names, parameters = zip(*self.transformer.named_parameters(), strict=True)
        return list(names), list(parameters)

    @property
    def device(self) -> torch.device:
        """Where the transformer's weights are."""
        return next(self.transformer.parameters()).device

    @property
    def _latent_grid(self) -> tuple[int, int]:
        """Channels and side of the autoencoder's square latent."""
        return self.pipe.vae.config.latent_channels, self.resolution // self.pipe.vae_scale_factor

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent in the transformer's layout; its product is D."""

    @abstractmethod
    def times(self, steps: int) -> Tensor:
        """The pipeline scheduler's `steps` + 1 flow times from 1 to 0, float32; never re-derived here."""

    def encode(self, prompts: list[str]) -> Conditioning:
        """Embeddings of the prompts: those stored, else by the pipeline's own text encoders."""
        if self.stored is None:
            return self.encode_now(prompts)
        found = self.stored(prompts)
        return Conditioning(found.tokens.to(self.device), found.pooled.to(self.device))

    @abstractmethod
    def encode_now(self, prompts: list[str]) -> Conditioning:
        """Embeddings of the prompts by the pipeline's own text encoders."""

    def velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        """Guided velocity in float32; sample (B, *latent_shape), time (B,), conditioning of B rows.

        With `rows` set, B is cut into forwards of so many, the last filled up with its first row.
        """
        if not self.rows:
            return self._velocity(sample, time, conditioning)
        parts = []
        for index in torch.arange(len(sample), device=sample.device).split(self.rows):
            full = torch.cat([index, index[:1].expand(self.rows - len(index))])
            parts.append(self._velocity(sample[full], time[full], conditioning.rows(full))[: len(index)])
        return torch.cat(parts)

    @abstractmethod
    def _velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        """`velocity` of a batch of any size."""

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The transformer without its adapter inside this context: the policy before training."""
        self._switch_adapter(on=False)
        try:
            yield
        finally:
            self._switch_adapter(on=True)

    def _switch_adapter(self, on: bool) -> None:
        # The transformer's own switch searches all modules at each call, which takes as long as a small forward.
        for layer in self._adapted:
            layer.enable_adapters(on)

    @cached_property
    def _adapted(self) -> list[BaseTunerLayer]:
        return [module for module in self.transformer.modules() if isinstance(module, BaseTunerLayer)]

    def _as_velocity(self, out: Tensor) -> Tensor:
        """The transformer's output in float32; a float16 backward pass starts from its gradient scaled up."""
        velocity = out.float()
        if velocity.requires_grad and self.gradient_scale != 1:
            velocity.register_hook(lambda gradient: gradient * self.gradient_scale)
        return velocity

    def _unscaled(self, gradient: Tensor) -> Tensor:
        return gradient / self.gradient_scale

    @abstractmethod
    def pack(self, latent: Tensor) -> Tensor:
        """(B, channels, side, side) to (B, *latent_shape)."""

    @abstractmethod
    def unpack(self, sample: Tensor) -> Tensor:
        """(B, *latent_shape) to (B, channels, side, side)."""

    @torch.no_grad()
    def decode(self, sample: Tensor) -> np.ndarray:
        """Images of latents: uint8 (B, H, W, 3), rounded as diffusers' image processor rounds them."""
        config = self.pipe.vae.config
        chunks = []
        chunk = max(1, min(DECODE_CHUNK, DECODE_PIXELS // self.resolution**2))
        for part in self.unpack(sample).split(chunk):
            latent = (part / config.scaling_factor + config.shift_factor).to(self.pipe.vae.dtype)
            image = self.pipe.vae.decode(latent).sample.float()
            chunks.append((image / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
        return torch.cat(chunks).permute(0, 2, 3, 1).contiguous().numpy()


def load(
    weights: str,
    resolution: int,
    text_tokens: int,
    guidance: float,
    *,
    dtype: str = "float32",
    cfg_detach: bool = False,
    checkpointing: bool = False,
    train: str = "lora",
    text_encoders: bool = True,
) -> Policy:
    """A policy around the pipeline in folder or hub repository `weights`.

    Args:
        resolution: side of the square images in pixels.
        text_tokens: length to which the T5 prompt is padded.
        guidance: CFG scale (SD3; 1 means off) or the distilled guidance input (Flux).
        dtype: of the frozen transformer and text encoders, a key of `DTYPES`; the autoencoder is always float32.
        cfg_detach: the unconditional half of SD3's guidance carries no gradient.
        checkpointing: activations are computed again in the backward pass instead of kept.
        train: `full` keeps the transformer in float32 whatever `dtype`, for `Policy.unfreeze`.
        text_encoders: without them their files are not read: embeddings then have to be `stored`.

    Raises:
        PolicyError: the weights are not there, or of a pipeline that no policy knows, or a setting does not fit them.
    """
    if dtype not in DTYPES:
        raise PolicyError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    parts = {"default": DTYPES[dtype], "vae": torch.float32}
    if train == "full":
        parts["transformer"] = torch.float32
    try:
        absent = {} if text_encoders else dict.fromkeys(_encoding_parts(weights))
        pipe = DiffusionPipeline.from_pretrained(weights, dtype=parts, use_safetensors=True, **absent)
    except (OSError, ValueError, SafetensorError, errors.HTTPError) as error:
        raise PolicyError(refusal(weights, error)) from error
    name = type(pipe).__name__
    if name not in POLICIES:
        raise PolicyError(f"{weights!r} holds a {name}; this program trains: {', '.join(POLICIES)}")
    module, kind = POLICIES[name].split(":")
    policy: type[Policy] = getattr(import_module(module), kind)
    if checkpointing:
        pipe.transformer.enable_gradient_checkpointing()
    return policy(pipe, resolution, text_tokens, guidance, cfg_detach=cfg_detach)


def _encoding_parts(weights: str) -> list[str]:
    """The pipeline's text encoders and tokenizers, as its index names them."""
    return [name for name in DiffusionPipeline.load_config(weights) if name.startswith(ENCODING)]
