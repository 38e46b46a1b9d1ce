"""Flux behind the policy interface: distilled guidance, packed latents, shift by the number of image tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.policy import Conditioning, Policy, PolicyError

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
from diffusers.pipelines.flux.pipeline_flux import calculate_shift  # isort: skip


class FluxPolicy(Policy):
    """Flux: guidance is an input of the distilled transformer; latents are packed 2x2."""

    distilled_guidance = True

    def __init__(self, pipe: Any, resolution: int, text_tokens: int, guidance: float, **options: Any) -> None:
        super().__init__(pipe, resolution, text_tokens, guidance, **options)
        if self.cfg_detach:
            raise PolicyError("cfg_detach is for true guidance; Flux has no unconditional half, set it to false")

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

    def encode_now(self, prompts: list[str]) -> Conditioning:
        tokens, pooled, _ = self.pipe.encode_prompt(prompts, max_sequence_length=self.text_tokens)
        return Conditioning(tokens, pooled)

    def _velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        side = self._latent_grid[1] // 2
        image_ids = self.pipe._prepare_latent_image_ids(len(sample), side, side, sample.device, self.dtype)
        guidance = torch.full((len(sample),), self.guidance, device=sample.device)
        out = self.transformer(
            hidden_states=sample.to(self.dtype),
            timestep=time,  # the transformer multiplies by 1000 itself
            guidance=guidance if self.transformer.config.guidance_embeds else None,
            pooled_projections=conditioning.pooled,
            encoder_hidden_states=conditioning.tokens,
            txt_ids=torch.zeros(conditioning.tokens.shape[1], 3, device=sample.device, dtype=self.dtype),
            img_ids=image_ids,
            return_dict=False,
        )
        return self._as_velocity(out[0])

    def pack(self, latent: Tensor) -> Tensor:
        return self.pipe._pack_latents(latent, *latent.shape)

    def unpack(self, sample: Tensor) -> Tensor:
        return self.pipe._unpack_latents(sample, self.resolution, self.resolution, self.pipe.vae_scale_factor)
