"""Trains the little world's autoencoder and generators from nothing: one resumable loop, two losses.

Every batch is a function of (seed, step), so an interrupted fit goes on as if it had not been interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from bench.policy import Policy
from bench.tiny.grammar import Target, all_prompts, held_out
from bench.tiny.render import render

# How often each category is drawn; our choice: what is hard to learn (relations, letters) more often.
CATEGORY_WEIGHT = {"single_object": 0.05, "counting": 0.1, "position": 0.3, "colors": 0.2, "text": 0.35}
# SD3 learns letters soonest, from three text encoders: with more of them its base would leave nothing to learn.
FEWER_TEXTS = {"single_object": 0.05, "counting": 0.13, "position": 0.42, "colors": 0.29, "text": 0.11}
EMA_DECAY = 0.999
SAVE_EVERY = 500  # steps
KL_WEIGHT = 1e-5  # our choice; 2e-3 spreads the picture over more latent directions, and the flow learns it worse
DROP_PROMPT = 0.1  # share of empty prompts, so that classifier-free guidance can be switched on
TIME_CENTER, TIME_SPREAD = 0.8, 1.2  # logit of the flow time: between SD3's shift of 3 (1.1) and Flux's here (0.5)
GENERATOR_RATE = 4e-3  # for batches of 32; batches of 96 at 2e-3 or 5e-3 learned less in the same time
GUIDANCE_RANGE = (1.0, 5.0)  # the Flux transformer's guidance input is drawn from here and carries no meaning


Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures, uint8 (N, 3, 32, 32), with the N prompts that they show."""

    images: Tensor
    prompts: list[str]


def category_weights(pool: list[tuple[str, Target]], share: Mapping[str, float]) -> NDArray[np.float64]:
    """Probability of each prompt, so that its category is drawn by `share`."""
    categories = [target["category"] for _, target in pool]
    weight = np.array([share[c] / categories.count(c) for c in categories])
    return weight / weight.sum()


def draw_prompts(count: int, rng: np.random.Generator, share: Mapping[str, float]) -> list[tuple[str, Target]]:
    """`count` prompts that are not held out, their categories by `share`."""
    pool = [p for p in all_prompts() if not held_out(*p)]
    return [pool[i] for i in rng.choice(len(pool), count, p=category_weights(pool, share))]


def paint(count: int, seed: int, share: Mapping[str, float]) -> Pictures:
    """`count` pictures of prompts that are not held out, their categories by `share`."""
    rng = np.random.default_rng(seed)
    pairs = draw_prompts(count, rng, share)
    images = np.stack([render(target, rng) for _, target in tqdm(pairs, "painting", leave=False)])
    return Pictures(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), [prompt for prompt, _ in pairs])


def fit(name: str, model: nn.Module, loss: Callable[[int], Tensor], steps: int, rate: float, folder: Path) -> nn.Module:
    """Minimises `loss(step)` by AdamW with warm-up and cosine decay; returns `model` with averaged weights.

    Progress is kept in `folder/name.pt` and taken up from there.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    average = AveragedModel(model, multi_avg_fn=_average)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 100) * 0.5 * (1 + math.cos(math.pi * i / steps))
    )
    parts: dict[str, Any] = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = _resume(folder / f"{name}.pt", parts)
    bar = tqdm(range(first, steps), name, initial=first, total=steps, mininterval=5)
    for step in bar:
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.item():.4f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            _save(folder / f"{name}.pt", parts, step + 1)
    model.load_state_dict(average.module.state_dict())
    return model


@torch.no_grad()
def _average(averages: Tensors, current: Tensors, n: Tensor | int) -> None:
    """Exponential average whose memory grows with the fit, so that its first weights are forgotten."""
    torch._foreach_lerp_(averages, current, 1 - min(EMA_DECAY, (1 + int(n)) / (10 + int(n))))


def _save(path: Path, parts: dict[str, Any], step: int) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
    partial.replace(path)


def _resume(path: Path, parts: dict[str, Any]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def fit_autoencoder(vae: AutoencoderKL, pictures: Pictures, steps: int, batch: int, folder: Path, seed: int) -> None:
    """Squared error in [-1, 1] plus a small KL; then sets the latents' shift and scale to make them unit normal."""

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(pictures.images), (batch,), generator=generator)
        images = pictures.images[rows] / 127.5 - 1
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        return (decoded - images).square().mean() + KL_WEIGHT * posterior.kl().mean() / images[0].numel()

    fit("autoencoder", vae, loss, steps, rate=2e-3, folder=folder)
    latents = encode(vae, pictures.images[:2000])
    vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Latent means of uint8 (N, 3, H, W) pictures, before shift and scale."""
    parts = tqdm(images.split(200), "encoding", leave=False)
    return torch.cat([vae.encode(part / 127.5 - 1).latent_dist.mean for part in parts])


def fit_generator(
    policy: Policy, latents: Tensor, prompts: list[str], steps: int, batch: int, folder: Path, seed: int
) -> None:
    """Conditional flow matching of the transformer, its text encoders frozen.

    x_t = (1 - t) image + t noise, the velocity noise - image is regressed; t is logit-normal about the noisy side
    (the schedulers spend most of their steps there). `latents` (N, C, H, W) are the autoencoder's, with N `prompts`.
    """
    config = policy.pipe.vae.config
    latents = (latents - config.shift_factor) * config.scaling_factor
    texts = sorted({*prompts, ""})
    with torch.no_grad():
        read = policy.encode(texts)
    index = {text: i for i, text in enumerate(texts)}
    asked = torch.tensor([index[prompt] for prompt in prompts])

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(latents), (batch,), generator=generator)
        dropped = torch.rand(batch, generator=generator) < DROP_PROMPT
        image = policy.pack(latents[rows])
        noise = torch.randn(image.shape, generator=generator)
        time = torch.sigmoid(TIME_CENTER + TIME_SPREAD * torch.randn(batch, generator=generator))
        low, high = GUIDANCE_RANGE
        policy.guidance = (
            low + (high - low) * torch.rand(1, generator=generator).item() if policy.distilled_guidance else 1.0
        )
        t = time.view(-1, *[1] * (image.dim() - 1))
        conditioning = read.rows(asked[rows].masked_fill(dropped, index[""]))
        velocity = policy.velocity((1 - t) * image + t * noise, time, conditioning)
        return (velocity - (noise - image)).square().mean()

    policy.transformer.requires_grad_(True)
    fit(type(policy).__name__, policy.transformer, loss, steps, rate=GENERATOR_RATE, folder=folder)
    policy.transformer.requires_grad_(False).eval()
