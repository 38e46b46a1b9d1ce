"""SD3 behind the policy interface: true classifier-free guidance, latents as the autoencoder lays them out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.policy import Conditioning, Policy, PolicyError


class SD3Policy(Policy):
    """SD3: true classifier-free guidance in one batched forward, with gradient through both halves.

    Source: flow_grpo train_sd3.py at 879042c. With `cfg_detach` the unconditional half carries none, as at ac4c86e
    (a482878 removed it); it is then a forward of its own, in rollout and update alike, so that means repeat exactly.
    """

    distilled_guidance = False
    _empty: Conditioning | None = None

    def __init__(self, pipe: Any, resolution: int, text_tokens: int, guidance: float, **options: Any) -> None:
        super().__init__(pipe, resolution, text_tokens, guidance, **options)
        largest = pipe.transformer.config.pos_embed_max_size * pipe.transformer.config.patch_size
        if resolution > largest * pipe.vae_scale_factor:
            raise PolicyError(
                f"resolution must be at most {largest * pipe.vae_scale_factor}, the positions of this transformer, "
                f"not {resolution}"
            )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        channels, side = self._latent_grid
        return (channels, side, side)

    def times(self, steps: int) -> Tensor:
        self.pipe.scheduler.set_timesteps(steps)
        return self.pipe.scheduler.sigmas.float().to(self.device)

    def encode_now(self, prompts: list[str]) -> Conditioning:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=self.text_tokens
        )
        return Conditioning(tokens, pooled)

    def _velocity(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        if self.guidance == 1:
            return self._forward(sample, time, conditioning)
        empty = self._unconditional(len(sample))
        if self.cfg_detach:
            with torch.no_grad():
                without = self._forward(sample, time, empty)
            with_prompt = self._forward(sample, time, conditioning)
        else:
            tokens = torch.cat([empty.tokens, conditioning.tokens])
            pooled = torch.cat([empty.pooled, conditioning.pooled])
            both = self._forward(sample.repeat(2, 1, 1, 1), time.repeat(2), Conditioning(tokens, pooled))
            without, with_prompt = both.chunk(2)
        return without + self.guidance * (with_prompt - without)

    def _unconditional(self, rows: int) -> Conditioning:
        if self._empty is None:
            with torch.no_grad():
                self._empty = self.encode([""])
        return self._empty.rows(torch.zeros(rows, dtype=torch.long, device=self.device))

    def _forward(self, sample: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        out = self.transformer(
            hidden_states=sample.to(self.dtype),
            timestep=time * self.pipe.scheduler.config.num_train_timesteps,
            encoder_hidden_states=conditioning.tokens,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )
        return self._as_velocity(out[0])

    def pack(self, latent: Tensor) -> Tensor:
        return latent

    def unpack(self, sample: Tensor) -> Tensor:
        return sample
