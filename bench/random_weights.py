"""A policy with random weights: the published architecture without a download, to measure time and memory."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

from bench.architectures import ArchitectureError, build, parts
from bench.config import Backbone
from bench.flux import FluxPolicy
from bench.policy import DTYPES, Conditioning, Policy, PolicyError
from bench.sd3 import SD3Policy

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, StableDiffusion3Pipeline  # isort: skip

# Shift 3 of SD3.5-M: flow_grpo's schedule at 10 steps needs it. Flux shifts by the number of image tokens,
# black-forest-labs/flux src/flux/sampling.py at 1f71c43, get_schedule: 0.5 at 256, 1.15 at 4096.
SCHEDULERS: dict[str, dict[str, Any]] = {
    "SD3Transformer2DModel": {"shift": 3.0},
    "FluxTransformer2DModel": {
        "use_dynamic_shifting": True,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    },
}


class RandomEmbeddings:
    """Standard normal embeddings in place of stored ones: the same for the same prompt and seed.

    Args:
        length, width: L and J of the tokens; `pooled` is the length of the pooled embedding.
    """

    def __init__(self, length: int, width: int, pooled: int, dtype: torch.dtype, seed: int) -> None:
        self.length, self.width, self.pooled, self.dtype, self.seed = length, width, pooled, dtype, seed

    def __call__(self, prompts: list[str]) -> Conditioning:
        tokens, pooled = zip(*(self._row(text) for text in prompts), strict=True)
        return Conditioning(torch.stack(tokens), torch.stack(pooled))

    def _row(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        digest = hashlib.sha256(json.dumps([self.seed, text]).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        tokens = torch.randn(self.length, self.width, generator=generator).to(self.dtype)
        return tokens, torch.randn(self.pooled, generator=generator).to(self.dtype)


def load(backbone: Backbone, device: torch.device, seed: int) -> Policy:
    """A policy of the architecture that the backbone's `weights` name, drawn on `device`; text encoders are left out.

    Raises:
        PolicyError: no architecture is known by that name, or a setting does not fit.
    """
    try:
        known, dtype = parts(backbone.weights), DTYPES[backbone.dtype]
    except ArchitectureError as error:
        raise PolicyError(str(error)) from error
    except KeyError as error:
        raise PolicyError(f"dtype must be one of {', '.join(DTYPES)}, not {backbone.dtype!r}") from error
    kind, config = known["transformer"].kind, known["transformer"].config
    transformer: Any = build(backbone.weights, device=device, seed=seed)
    if backbone.train != "full":  # weights that are trained stay float32, as everywhere
        nn.Module.to(transformer, dtype)  # diffusers' own `to` advises against itself
    if backbone.checkpointing:
        transformer.enable_gradient_checkpointing()
    loaded = _around(kind, transformer, build(backbone.weights, "vae", device, seed), backbone)
    clip = known["text_encoder"].config["max_position_embeddings"] if isinstance(loaded, SD3Policy) else 0
    length = backbone.text_tokens + clip  # SD3 puts CLIP's tokens before T5's
    shape = (length, config["joint_attention_dim"], config["pooled_projection_dim"])
    loaded.stored = RandomEmbeddings(*shape, dtype, seed)
    return loaded


def _around(kind: str, transformer: Any, vae: nn.Module, backbone: Backbone) -> Policy:
    """The policy of a pipeline that holds nothing but a transformer, an autoencoder and the published schedule."""
    absent = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULERS[kind])
    settings = (backbone.resolution, backbone.text_tokens, backbone.guidance)
    if kind == "FluxTransformer2DModel":
        flux = FluxPipeline(scheduler=scheduler, vae=vae, transformer=transformer, **absent)
        return FluxPolicy(flux, *settings, cfg_detach=backbone.cfg_detach)
    absent |= dict.fromkeys(("text_encoder_3", "tokenizer_3"))
    sd3 = StableDiffusion3Pipeline(scheduler=scheduler, vae=vae, transformer=transformer, **absent)
    return SD3Policy(sd3, *settings, cfg_detach=backbone.cfg_detach)
