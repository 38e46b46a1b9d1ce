"""What is measured: a policy with its adapter, the members of one rollout and their prompt embeddings.

The tiny pipelines are the shipped ones. Full size, and the transformer of the comparison, are diffusers' classes with
random weights, and random embeddings stand in for the text encoders: speed does not depend on what they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines.recipe import Recipe
from bench import loading, noise, prompts, rollout
from bench.architectures import SD35_MEDIUM, build
from bench.config import Backbone, Config, ConfigError
from bench.costs import shape_of
from bench.counting import inputs
from bench.experiments import find_row
from bench.flux import FluxPolicy
from bench.members import Member, members_of
from bench.noise import Coordinates
from bench.policy import DTYPES, Conditioning, Policy
from bench.prompts import Prompt
from bench.rollout import Samples
from bench.sd3 import SD3Policy
from bench.session import recipe_of
from bench.suite import configure

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, StableDiffusion3Pipeline  # isort: skip

SEED = 0
# One rollout and one update on all of it.
ONE_EPOCH = ("updates=1", "optim.updates_per_rollout=1", "evaluation.every=1", "sampling.groups=1", "tracking=null")
# As the shipped Flux pipeline has them (bench/tiny/pipelines.py); the same are diffusers' own for FLUX.1-dev.
FLUX_SHIFT = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}


@dataclass(frozen=True)
class Subject:
    """One epoch's worth of work.

    Attributes:
        settings: of the run that would do it; its `sampling` and `optim` say how it is cut.
        backbone: the settings of its pipeline.
        conditioning: embeddings of the epoch's prompts, a row each.
        times: (T + 1,), the flow times.
    """

    settings: Config
    backbone: Backbone
    policy: Policy
    recipe: Recipe
    members: list[Member]
    conditioning: Conditioning
    times: Tensor

    def sample(self) -> Samples:
        """The runner's rollout, with random advantages: what it costs does not depend on the rewards."""
        size, at = self.settings.sampling.micro_batch, (self.members, self.conditioning, self.times)
        samples = rollout.sample(self.policy, self.recipe, *at, SEED, 0, size)
        drawn = noise.normal(Coordinates(SEED, "subset"), samples.advantages.shape[:1])
        samples.advantages = drawn.unsqueeze(1).expand_as(samples.advantages).clone()
        return samples


def settings_of(row: str, scale: str, batch: int | None, overrides: Sequence[str] = ()) -> Config:
    """The settings of a row, cut to one rollout of one group and one update on it.

    Args:
        batch: members of the group and of each micro-batch; None: the micro-batch of the scale.

    Raises:
        ConfigError: an override names what is not.
    """
    size = batch or configure(row, [f"scale={scale}"]).sampling.micro_batch
    sizes = [f"{key}={size}" for key in ("sampling.group_size", "sampling.micro_batch", "optim.micro_batch")]
    return configure(row, [f"scale={scale}", *ONE_EPOCH, *sizes, *overrides])


def subject(settings: Config, device: torch.device) -> Subject:
    """The subject of `settings`: the shipped pipeline where its folder is here, else one of random weights.

    Raises:
        PolicyError, PromptError, ArchitectureError, ConfigError: the settings do not fit together.
    """
    backbone = settings.backbones[find_row(settings.row).backbone]
    shipped = Path(backbone.weights).is_dir()
    made = loading.pipeline(backbone, device) if shipped else random_policy(backbone, device)
    path = Path(settings.tasks["text"].prompts)
    known = prompts.of_epoch(prompts.load(path, repeats=True), 1, SEED, 0) if path.exists() else [made_up()]
    return assemble(settings, backbone, made, known[0])


def assemble(settings: Config, backbone: Backbone, made: Policy, prompt: Prompt) -> Subject:
    """Adds the adapter, no part of it zero, and the members of one group.

    Raises:
        ConfigError: nothing is trained, or all of the transformer is.
    """
    recipe, lora = recipe_of(settings, find_row(settings.row)), backbone.lora
    if recipe is None or backbone.train != "lora":
        raise ConfigError(f"wanted a row that trains an adapter, found {settings.row} with train={backbone.train}")
    loading.fix_rows(made, backbone, settings.optim.micro_batch)
    _, parameters = made.add_lora(lora.rank, lora.alpha, lora.targets, SEED)
    _stir(parameters)
    with torch.no_grad():
        conditioning = made.encode([prompt.text])
    members = members_of([prompt], settings.sampling.group_size)
    return Subject(settings, backbone, made, recipe, members, conditioning, made.times(settings.sampling.steps))


def made_up() -> Prompt:
    """A prompt for where there is no prompt file."""
    return Prompt("0", 'a sign that says "HELLO"')


@torch.no_grad()
def _stir(parameters: list[Tensor], size: float = 0.02) -> None:
    generator = torch.Generator().manual_seed(SEED)
    for parameter in parameters:  # else half of an adapter is zero, and so are the gradients of the other half
        parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))


def random_policy(
    backbone: Backbone,
    device: torch.device,
    tokens: int | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Policy:
    """A full-size policy of random weights, nothing downloaded.

    Args:
        tokens: length of a prompt's embedding; None: the pipeline's own.
        changes: settings to replace in the transformer and the vae, {"transformer": {"num_layers": 2}} for instance.

    Raises:
        ArchitectureError: no architecture is known under `backbone.weights`.
    """
    parts: dict[str, Any] = {
        name: build(backbone.weights, name, device, SEED, **(changes or {}).get(name, {}))
        for name in ("transformer", "vae")
    }
    transformer = parts["transformer"]
    nn.Module.to(transformer, DTYPES[backbone.dtype])  # diffusers' own `to` advises against itself at every call
    if backbone.checkpointing:
        transformer.enable_gradient_checkpointing()
    made = _wrapped(backbone, parts)
    length = tokens or inputs(shape_of(backbone))["encoder_hidden_states"].shape[1]
    made.stored = lambda texts: random_embeddings(made, texts, length)
    return made


def _wrapped(backbone: Backbone, parts: dict[str, Any]) -> Policy:
    sd3 = backbone.weights == SD35_MEDIUM
    kind, wrapper = (StableDiffusion3Pipeline, SD3Policy) if sd3 else (FluxPipeline, FluxPolicy)
    shift = {"shift": 3.0} if sd3 else {"use_dynamic_shifting": True, **FLUX_SHIFT}
    encoders = [name for name in ("", "_2", "_3") if sd3 or name != "_3"]
    absent = {f"{part}{name}": None for name in encoders for part in ("text_encoder", "tokenizer")}
    pipe = kind(scheduler=FlowMatchEulerDiscreteScheduler(**shift), **parts, **absent)
    pipe.set_progress_bar_config(disable=True)
    settings = (backbone.resolution, backbone.text_tokens, backbone.guidance)
    return wrapper(pipe, *settings, cfg_detach=backbone.cfg_detach)


def random_embeddings(made: Policy, texts: Sequence[str], tokens: int) -> Conditioning:
    """Standard normal embeddings, the same for the same text: tokens (n, `tokens`, J) and pooled (n, E)."""
    config = made.transformer.config
    shapes = ((tokens, config.joint_attention_dim), (config.pooled_projection_dim,))
    drawn = [
        torch.stack([noise.normal(Coordinates(SEED, "evaluation", prompt=text, step=part), shape) for text in texts])
        for part, shape in enumerate(shapes)
    ]
    return Conditioning(*(values.to(made.dtype) for values in drawn))


def compile_blocks(made: Policy) -> None:
    """Compiles each transformer block in place; a block that repeats is compiled once.

    diffusers' `compile_repeated_blocks` raises for SD3, which does not name its blocks (diffusers 0.42.1).
    """
    for blocks in ("transformer_blocks", "single_transformer_blocks"):
        for block in getattr(made.transformer, blocks, ()):
            block.compile()
