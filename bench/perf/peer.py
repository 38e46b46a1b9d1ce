"""The official flow_grpo code, imported from a checkout and called: its rollout and its training step.

Its rollout and its forward pass with log-probability are functions and are called as they are. The loss around them is
inside its main() and cannot be called, so `backward` is our own writing of what it computes (scripts/train_sd3.py at
879042c): ratio, clip, max, mean, KL of means over 2 sigma^2, and the means that it logs. Optimizer and clipping of
gradients are left out on both sides; on its side alone, accelerate's wrapping of a step and the progress bars.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from baselines.recipe import ADVANTAGE_CLIP
from bench.perf.subjects import Subject

COMMIT = "879042cf5707f8b90daa98d147d7deac2317c5da"
# Git's own hashes of the files that are imported, at that commit.
FILES = {
    "scripts/train_sd3.py": "726b7df9b04ffd1961a124fc80021a4b050e21fc",
    "flow_grpo/ema.py": "dcdfc2caf0f1b4e11c85965f7747bdc4f52833cb",
    "flow_grpo/prompts.py": "889842675a0b14f842769bf47580f597262a8198",
    "flow_grpo/rewards.py": "f232fee7a71c390ef21076ec62680c3e266c6cbe",
    "flow_grpo/stat_tracking.py": "0166c10290ad6c210c55010ac769f77a79d141a2",
    "flow_grpo/diffusers_patch/sd3_pipeline_with_logprob.py": "92560995e2454d163b487553c792d420d15a11b8",
    "flow_grpo/diffusers_patch/sd3_sde_with_logprob.py": "43a00bb13e66958f86bf15979fb34f3dfc4385e0",
    "flow_grpo/diffusers_patch/train_dreambooth_lora_sd3.py": "cd908170bbc2d773109cebb799b2a4d1042335e6",
}
UNUSED = ("wandb", "absl", "ml_collections")  # imported by train_sd3.py for its command line and its logs


class CheckoutError(ValueError):
    """The folder is not the official code at the commit that is compared with."""


class _Anything(ModuleType):
    """A package whose every name is there and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)

    def __call__(self, *arguments: Any, **options: Any) -> None:
        return None


@dataclass(frozen=True)
class Trajectories:
    """What the official rollout leaves behind: latents (B, T + 1, *L), log-probabilities and times (B, T), means."""

    latents: Tensor
    log_probs: Tensor
    means: Tensor
    timesteps: Tensor

    def as_batch(self) -> dict[str, Tensor]:
        """With the names under which its training reads them."""
        return {
            "latents": self.latents[:, :-1],
            "next_latents": self.latents[:, 1:],
            "log_probs": self.log_probs,
            "timesteps": self.timesteps,
        }


def check(folder: Path) -> None:
    """Whether `folder` holds the official code of `COMMIT`, as far as it is imported.

    Raises:
        CheckoutError: a file is missing or another one.
    """
    wanted = f"FLOW_GRPO_DIR={folder} must be a checkout of flow_grpo at {COMMIT[:7]}"
    for name, known in FILES.items():
        if not (folder / name).is_file():
            raise CheckoutError(f"{wanted}: {name} is missing; clone it and check that commit out")
        content = (folder / name).read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if found != known:
            raise CheckoutError(f"{wanted}: {name} is another one; check that commit out, without changes")


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    absent = [name for name in UNUSED if find_spec(name) is None]
    for name in absent:
        stub = _Anything(name)
        stub.__spec__ = ModuleSpec(name, None)
        sys.modules[name] = stub
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in absent:
            del sys.modules[name]


class Peer:
    """The official functions, imported from a checkout.

    Raises:
        CheckoutError: it is not the one, or cannot be imported.
    """

    def __init__(self, folder: Path) -> None:
        check(folder)
        patch = "flow_grpo.diffusers_patch"
        try:
            with _importable(folder):
                self.sde: Any = importlib.import_module(f"{patch}.sd3_sde_with_logprob")
                self.pipeline: Any = importlib.import_module(f"{patch}.sd3_pipeline_with_logprob")
                spec = spec_from_file_location("flow_grpo_train_sd3", folder / "scripts/train_sd3.py")
                assert spec and spec.loader
                self.train: Any = module_from_spec(spec)
                spec.loader.exec_module(self.train)
        except ImportError as error:
            raise CheckoutError(f"{folder} cannot be imported: {error}; install what it needs") from error

    @contextmanager
    def noise(self, draws: list[Tensor]) -> Iterator[None]:
        """Its rollout then takes these draws, one a step, for its own."""
        left, own = iter(draws), self.sde.randn_tensor
        self.sde.randn_tensor = lambda *_, **__: next(left)
        try:
            yield
        finally:
            self.sde.randn_tensor = own

    def rollout(self, subject: Subject, initial: Tensor | None = None) -> Trajectories:
        """Its pipeline with log-probabilities, images decoded and dropped.

        Args:
            initial: (B, *L); None: it draws its own.
        """
        policy, steps = subject.policy, subject.settings.sampling.steps
        _, latents, log_probs, means = self.pipeline.pipeline_with_logprob(
            policy.pipe,
            **_embeddings(subject),
            num_inference_steps=steps,
            guidance_scale=policy.guidance,
            output_type="pt",
            height=policy.resolution,
            width=policy.resolution,
            noise_level=subject.recipe.noise_level,
            latents=initial,
            return_prev_sample_mean=True,
        )
        timesteps = policy.pipe.scheduler.timesteps.repeat(len(subject.members), 1)
        return Trajectories(torch.stack(latents, 1), torch.stack(log_probs, 1), torch.stack(means, 1), timesteps)

    def train_epoch(self, subject: Subject, batch: dict[str, Tensor], advantages: Tensor) -> list[Tensor]:
        """Its training on one micro-batch: all steps but the last; gradients are left in `.grad`.

        Returns:
            The ratios (B,) of each step.
        """
        given = _embeddings(subject)
        embeds = torch.cat([given["negative_prompt_embeds"], given["prompt_embeds"]])
        pooled = torch.cat([given["negative_pooled_prompt_embeds"], given["pooled_prompt_embeds"]])
        trained = batch["log_probs"].shape[1] - 1  # timestep_fraction 0.99 of the steps
        return [self.backward(subject, batch, step, embeds, pooled, advantages, trained) for step in range(trained)]

    def backward(
        self,
        subject: Subject,
        batch: dict[str, Tensor],
        step: int,
        embeds: Tensor,
        pooled: Tensor,
        advantages: Tensor,
        accumulated: int,
    ) -> Tensor:
        """One training step: its forward with log-probability, the published loss, a backward. Returns the ratios."""
        policy, clip, beta = subject.policy, subject.recipe.clip, subject.settings.optim.kl_beta
        own = _settings(subject)
        at = (policy.transformer, policy.pipe, batch, step, embeds, pooled, own)
        _, log_prob, mean, sigma = self.train.compute_log_prob(*at)
        advantage = advantages.clamp(-ADVANTAGE_CLIP, ADVANTAGE_CLIP)
        ratio = (log_prob - batch["log_probs"][:, step]).exp()
        loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
        if beta > 0:
            with torch.no_grad(), _without_adapter(policy.transformer):
                reference = self.train.compute_log_prob(*at)[2]
            loss = loss + beta * ((mean - reference).square().mean((1, 2, 3), keepdim=True) / (2 * sigma**2)).mean()
        _logged(log_prob - batch["log_probs"][:, step], ratio, clip)
        (loss / accumulated).backward()  # as accelerate divides
        return ratio.detach()


@contextmanager
def _without_adapter(transformer: torch.nn.Module) -> Iterator[None]:
    """The adapter off and on again as peft's `disable_adapter`, which it calls, does it: searching all modules."""
    for on in (False, True):
        for module in transformer.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(on)
        if not on:
            yield


def _logged(log_ratio: Tensor, ratio: Tensor, clip: float) -> list[Tensor]:
    """Its approximate KL and its three clip fractions of a step."""
    outside = ((ratio - 1).abs() > clip, ratio - 1 > clip, 1 - ratio > clip)
    return [0.5 * log_ratio.square().mean(), *(each.float().mean() for each in outside)]


def _settings(subject: Subject) -> SimpleNamespace:
    level = SimpleNamespace(guidance_scale=subject.policy.guidance, noise_level=subject.recipe.noise_level)
    return SimpleNamespace(train=SimpleNamespace(cfg=subject.policy.guidance != 1), sample=level)


def _embeddings(subject: Subject) -> dict[str, Tensor]:
    rows = torch.tensor([member.row for member in subject.members], device=subject.policy.device)
    own, empty = subject.conditioning.rows(rows), subject.policy.encode([""])
    return {
        "prompt_embeds": own.tokens,
        "pooled_prompt_embeds": own.pooled,
        "negative_prompt_embeds": empty.tokens.repeat(len(rows), 1, 1),
        "negative_pooled_prompt_embeds": empty.pooled.repeat(len(rows), 1),
    }
