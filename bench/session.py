"""Everything that a run holds while it trains, made from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

import baselines
from baselines.recipe import Recipe
from bench import config, embeddings, policy, prompts, rewards, sample
from bench.checkpoint import State
from bench.config import Backbone, Config
from bench.ema import Ema
from bench.experiments import Row, find_row
from bench.policy import Policy
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.record import Record
from gold_metrics.scorer import Scorer


@dataclass
class Session:
    """A run in the making.

    Attributes:
        recipe, proxy: the method and what it is rewarded by; None for a base model.
        updates: planned optimiser updates, 0 for a base model.
        scorers: the judges of every evaluation, proxies and golds.
    """

    config: Config
    row: Row
    recipe: Recipe | None
    proxy: Scorer | None
    policy: Policy
    state: State
    record: Record
    train_prompts: list[Prompt]
    eval_prompts: list[Prompt]
    ranks: Ranks
    updates: int
    scorers: list[Scorer]


def recipe_of(settings: Config, row: Row) -> Recipe | None:
    """The row's recipe with the scale's clip and the backbone's noise level; None for a base model."""
    if not row.recipe:
        return None
    recipe = baselines.find_recipe(row.recipe)
    level = settings.backbones[row.backbone].noise_level or recipe.noise_level
    return replace(recipe, clip=(row.clip or recipe.clip) * settings.clip_scale, noise_level=level)


def prepare(settings: Config, ranks: Ranks) -> Session:
    """Reads the prompts, loads the scorers and the pipeline and adds the adapter; the same on each of `ranks`.

    Raises:
        RowError, PromptError, PolicyError, ConfigError, WeightsError, OSError: what the run needs is missing or does
            not fit.
    """
    row = find_row(settings.row)
    recipe, backbone = recipe_of(settings, row), settings.backbones[row.backbone]
    check_groups(settings, recipe, ranks.count)
    train_prompts = prompts.load(Path(settings.tasks[row.task].prompts), repeats=True) if row.task else []
    eval_prompts = prompts.load(Path(settings.evaluation.prompts))
    scorers = sample.judges(settings)
    loaded = _load(backbone, ranks, [train_prompts, eval_prompts])
    return Session(
        config=settings,
        row=row,
        recipe=recipe,
        proxy=rewards.load(row.task, settings.scale, settings.judges, rewarding=True) if row.task else None,
        policy=loaded,
        state=_fresh_state(settings, loaded, backbone.lora),
        record=Record(config.folder_of(settings, row), writes=ranks.first),
        train_prompts=train_prompts,
        eval_prompts=eval_prompts,
        ranks=ranks,
        updates=config.planned_updates(settings, row),
        scorers=scorers,
    )


def _load(backbone: Backbone, ranks: Ranks, sets: list[list[Prompt]]) -> Policy:
    loaded = policy.load(
        backbone.weights,
        backbone.resolution,
        backbone.text_tokens,
        backbone.guidance,
        dtype=backbone.dtype,
        cfg_detach=backbone.cfg_detach,
        checkpointing=backbone.checkpointing,
    )
    loaded.pipe.to(ranks.device)
    if backbone.embeddings:
        texts = [[prompt.text for prompt in prompts] for prompts in sets]
        embeddings.attach(loaded, backbone.weights, Path(backbone.embeddings), texts)
    return loaded


def _fresh_state(settings: Config, loaded: Policy, lora: config.Lora) -> State:
    optim = settings.optim
    names, parameters = loaded.add_lora(lora.rank, lora.alpha, lora.targets, settings.seed)
    beta1, beta2 = optim.betas
    optimizer = torch.optim.AdamW(parameters, optim.rate, (beta1, beta2), optim.epsilon, optim.weight_decay)
    return State(names, parameters, Ema(parameters, optim.ema_decay, optim.ema_interval), optimizer)


def check_groups(settings: Config, recipe: Recipe | None, ranks: int) -> None:
    """Whether whole trunks fit into a group, and each rank has one.

    Raises:
        ConfigError: they do not.
    """
    size, branches = settings.sampling.group_size, recipe.plan.branches if recipe else 1
    if recipe and size % branches:
        raise config.ConfigError(
            f"sampling.group_size={size} must be a multiple of {recipe.name}'s {branches} branches"
        )
    trunks = settings.sampling.groups * size // branches
    if ranks > trunks:
        raise config.ConfigError(f"{ranks} processes share {trunks} trunks of an epoch; start at most {trunks}")
