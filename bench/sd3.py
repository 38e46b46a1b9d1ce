"""SD3 behind the policy interface: true classifier-free guidance, latents as the autoencoder lays them out."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.policy import Conditioning, Policy


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
