"""Evaluation: fixed prompts and seeds, deterministic sampler, an image set, and what every judge says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import gold_metrics
from baselines.sde import ode_step
from bench import noise, rewards
from bench.config import Config, Evaluation
from bench.experiments import GOLD, PROXIES
from bench.noise import Coordinates
from bench.policy import Policy
from bench.prompts import Prompt
from gold_metrics import image_set
from gold_metrics.judging import mean
from gold_metrics.scorer import Entry, Scorer


@torch.no_grad()
def images(policy: Policy, prompts: Sequence[Prompt], seed: int, member: int, steps: int) -> np.ndarray:
    """One image of each prompt, uint8 (N, H, W, 3), by the probability-flow ODE from evaluation noise `member`."""
    at = [Coordinates(seed, "evaluation", prompt=prompt.id, member=member) for prompt in prompts]
    latents = torch.stack([noise.normal(coordinates, policy.latent_shape) for coordinates in at]).to(policy.device)
    conditioning = policy.encode([prompt.text for prompt in prompts])
    times = policy.times(steps)
    for index in range(steps):
        velocity = policy.velocity(latents, times[index].expand(len(latents)), conditioning)
        latents = ode_step(latents, velocity, times, index)
    return policy.decode(latents)


def write(policy: Policy, prompts: Sequence[Prompt], seed: int, settings: Evaluation, folder: Path) -> None:
    """Samples `settings.images_per_prompt` images of each prompt into the image set `folder`."""
    pictures, entries = [], []
    size = settings.micro_batch
    for member in range(settings.images_per_prompt):
        for part in (prompts[start : start + size] for start in range(0, len(prompts), size)):
            pictures += list(images(policy, part, seed, member, settings.steps))
        entries += [Entry(f"{p.id}-{member}.png", "", p.id, p.text, member, p.target) for p in prompts]
    image_set.write(folder, pictures, entries)


def judges(settings: Config) -> list[Scorer]:
    """The proxies and the gold scorers of a scale, in the order of the table's columns."""
    scale, options = settings.scale, settings.judges
    golds = [rewards.full_size(name, options.get(name, {})) for name in GOLD[scale]]
    return [rewards.load(task, scale, options) for task in PROXIES] + golds


def judge(folder: Path, scorers: Sequence[Scorer], out: Path, run: str, step: int) -> dict[str, float]:
    """Scores the image set of a run at an update, writes every score to `out` and returns the means as metrics.

    A score that could not be had is left out of the mean and counted in `<key>_missing`.
    """
    frame = gold_metrics.judge(image_set.read(folder), scorers, run=run, step=step)
    gold_metrics.write_scores(frame, out)
    return means(frame)


def means(frame: pd.DataFrame) -> dict[str, float]:
    """`proxy/NAME` and `gold/NAME` with `_n` and `_missing`, from a frame of scores."""
    found: dict[str, float] = {}
    for name, scores in frame.groupby("scorer", sort=False):
        key = f"{'proxy' if name in PROXIES else 'gold'}/{name}"
        missing = int(scores["score"].isna().sum())
        found |= {key: mean(scores), f"{key}_n": len(scores) - missing, f"{key}_missing": missing}
    return found


def evaluate(
    policy: Policy,
    prompts: Sequence[Prompt],
    seed: int,
    settings: Evaluation,
    folder: Path,
    update: int,
    scorers: Sequence[Scorer],
) -> dict[str, float]:
    """One evaluation point of the run in `folder`: leaves images and scores there, returns the means as metrics."""
    name = f"update-{update:06d}"
    write(policy, prompts, seed, settings, folder / "images" / name)
    scores = folder / "scores" / f"{name}.parquet"
    return judge(folder / "images" / name, scorers, scores, f"{folder.parent.name}-{folder.name}", update)
