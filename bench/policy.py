"""The image generator as a policy: prompt embeddings, velocity, decoding. SD3 and Flux differ here and nowhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gold_metrics.torchvision_repair import repair

repair()

from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusion3Pipeline  # noqa: E402
from diffusers.pipelines.flux.pipeline_flux import calculate_shift  # noqa: E402

DECODE_CHUNK = 64  # images; bounds the autoencoder's memory


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
    in [0, 1]; the velocity points from image to noise.
    """

    distilled_guidance: bool  # whether the guidance scale is an input of the transformer

    def __init__(self, pipe: Any, resolution: int, text_tokens: int, guidance: float) -> None:
        factor = pipe.vae_scale_factor * 2  # both backbones cut the latent into 2x2 patches
        if resolution % factor:
            raise PolicyError(f"resolution must be a multiple of {factor} for this autoencoder, not {resolution}")
        self.pipe, self.resolution, self.text_tokens, self.guidance = pipe, resolution, text_tokens, guidance
        self.transformer = pipe.transformer
        for module in (pipe.vae, pipe.transformer, *self._text_encoders()):
            module.requires_grad_(False).eval()

    def _text_encoders(self) -> list[torch.nn.Module]:
        return [m for name, m in self.pipe.components.items() if name.startswith("text_encoder") and m is not None]

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

    @abstractmethod
    def encode(self, prompts: list[str]) -> Conditioning:
        """Embeddings of the prompts by the pipeline's own text encoders."""

    @abstractmethod
    def velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        """Guided velocity in float32; sample (B, *latent_shape), time (B,), conditioning of B rows."""

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
        for part in self.unpack(sample).split(DECODE_CHUNK):
            latent = (part / config.scaling_factor + config.shift_factor).to(self.pipe.vae.dtype)
            image = self.pipe.vae.decode(latent).sample.float()
            chunks.append((image / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
        return torch.cat(chunks).permute(0, 2, 3, 1).contiguous().numpy()


class SD3Policy(Policy):
    """SD3: true classifier-free guidance in one batched forward, with gradient through both halves.

    Source: flow_grpo train_sd3.py at 879042c (the detach of the unconditional half was removed in a482878).
    """

    distilled_guidance = False
    _empty: Conditioning | None = None

    @property
    def latent_shape(self) -> tuple[int, ...]:
        channels, side = self._latent_grid
        return (channels, side, side)

    def times(self, steps: int) -> Tensor:
        self.pipe.scheduler.set_timesteps(steps)
        return self.pipe.scheduler.sigmas.float().to(self.device)

    def encode(self, prompts: list[str]) -> Conditioning:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=self.text_tokens
        )
        return Conditioning(tokens, pooled)

    def velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        if self.guidance == 1:
            return self._forward(sample, time, conditioning)
        if self._empty is None:
            with torch.no_grad():
                self._empty = self.encode([""])
        n = len(sample)
        tokens = torch.cat([self._empty.tokens.expand(n, -1, -1), conditioning.tokens])
        pooled = torch.cat([self._empty.pooled.expand(n, -1), conditioning.pooled])
        both = self._forward(sample.repeat(2, 1, 1, 1), time.repeat(2), Conditioning(tokens, pooled))
        without, with_prompt = both.chunk(2)
        return without + self.guidance * (with_prompt - without)

    def _forward(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        out = self.transformer(
            hidden_states=sample.to(self.transformer.dtype),
            timestep=time * self.pipe.scheduler.config.num_train_timesteps,
            encoder_hidden_states=conditioning.tokens,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )
        return out[0].float()

    def pack(self, latent: Tensor) -> Tensor:
        return latent

    def unpack(self, sample: Tensor) -> Tensor:
        return sample


class FluxPolicy(Policy):
    """Flux: guidance is an input of the distilled transformer; latents are packed 2x2."""

    distilled_guidance = True

    @property
    def latent_shape(self) -> tuple[int, ...]:
        channels, side = self._latent_grid
        return ((side // 2) ** 2, channels * 4)

    def times(self, steps: int) -> Tensor:
        config = self.pipe.scheduler.config
        shift = calculate_shift(
            self.latent_shape[0],
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )
        self.pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
        return self.pipe.scheduler.sigmas.float().to(self.device)

    def encode(self, prompts: list[str]) -> Conditioning:
        tokens, pooled, _ = self.pipe.encode_prompt(prompts, max_sequence_length=self.text_tokens)
        return Conditioning(tokens, pooled)

    def velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        side = self._latent_grid[1] // 2
        dtype = self.transformer.dtype
        image_ids = self.pipe._prepare_latent_image_ids(len(sample), side, side, sample.device, dtype)
        guidance = torch.full((len(sample),), self.guidance, device=sample.device)
        out = self.transformer(
            hidden_states=sample.to(dtype),
            timestep=time,  # the transformer multiplies by 1000 itself
            guidance=guidance if self.transformer.config.guidance_embeds else None,
            pooled_projections=conditioning.pooled,
            encoder_hidden_states=conditioning.tokens,
            txt_ids=torch.zeros(conditioning.tokens.shape[1], 3, device=sample.device, dtype=dtype),
            img_ids=image_ids,
            return_dict=False,
        )
        return out[0].float()

    def pack(self, latent: Tensor) -> Tensor:
        return self.pipe._pack_latents(latent, *latent.shape)

    def unpack(self, sample: Tensor) -> Tensor:
        return self.pipe._unpack_latents(sample, self.resolution, self.resolution, self.pipe.vae_scale_factor)


POLICIES: dict[type, type[Policy]] = {StableDiffusion3Pipeline: SD3Policy, FluxPipeline: FluxPolicy}


def load(weights: str, resolution: int, text_tokens: int, guidance: float) -> Policy:
    """A policy around the pipeline in folder or hub repository `weights`.

    Args:
        resolution: side of the square images in pixels.
        text_tokens: length to which the T5 prompt is padded.
        guidance: CFG scale (SD3; 1 means off) or the distilled guidance input (Flux).

    Raises:
        PolicyError: the weights are not there, or of a pipeline that no policy knows.
    """
    try:
        pipe = DiffusionPipeline.from_pretrained(weights)
    except (OSError, ValueError) as error:
        kind = "folder" if Path(weights).is_absolute() else "hub repository or folder"
        raise PolicyError(f"no pipeline could be loaded from {kind} {weights!r}: {error}") from error
    if type(pipe) not in POLICIES:
        known = ", ".join(cls.__name__ for cls in POLICIES)
        raise PolicyError(f"{weights!r} holds a {type(pipe).__name__}; this program trains: {known}")
    return POLICIES[type(pipe)](pipe, resolution, text_tokens, guidance)
