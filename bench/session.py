"""Everything that a run holds while it trains, made from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

import baselines
from baselines.recipe import Recipe
from baselines.terms import KL_UNITS
from bench import config, embeddings, policy, prompts, rewards, sample
from bench.checkpoint import State
from bench.config import Backbone, Config
from bench.ema import Ema
from bench.experiments import Row, find_row
from bench.policy import DTYPES, Policy
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
    check_training(settings, backbone, ranks.count)
    train_prompts = prompts.load(Path(settings.tasks[row.task].prompts), repeats=True) if row.task else []
    eval_prompts = prompts.load(Path(settings.evaluation.prompts))
    scorers = sample.judges(settings)
    loaded = _load(backbone, settings.optim.micro_batch, ranks, [train_prompts, eval_prompts])
    return Session(
        config=settings,
        row=row,
        recipe=recipe,
        proxy=rewards.load(row.task, settings.scale, settings.judges, rewarding=True) if row.task else None,
        policy=loaded,
        state=_fresh_state(settings, loaded, backbone, ranks),
        record=Record(config.folder_of(settings, row), writes=ranks.first),
        train_prompts=train_prompts,
        eval_prompts=eval_prompts,
        ranks=ranks,
        updates=config.planned_updates(settings, row),
        scorers=scorers,
    )


def _load(backbone: Backbone, micro_batch: int, ranks: Ranks, sets: list[list[Prompt]]) -> Policy:
    loaded = policy.load(
        backbone.weights,
        backbone.resolution,
        backbone.text_tokens,
        backbone.guidance,
        dtype=backbone.dtype,
        cfg_detach=backbone.cfg_detach,
        checkpointing=backbone.checkpointing,
        train=backbone.train,
    )
    loaded.pipe.to(ranks.device)
    if backbone.dtype != "float32" or ranks.device.type != "cpu":
        loaded.rows = micro_batch
    if backbone.embeddings:
        texts = [[prompt.text for prompt in prompts] for prompts in sets]
        embeddings.attach(loaded, backbone.weights, Path(backbone.embeddings), texts)
    return loaded


def _fresh_state(settings: Config, loaded: Policy, backbone: Backbone, ranks: Ranks) -> State:
    optim, lora = settings.optim, backbone.lora
    if backbone.train == "full":
        ranks.shard(loaded.transformer, DTYPES[backbone.dtype])
        names, parameters = loaded.unfreeze(DTYPES[backbone.dtype])
    else:
        names, parameters = loaded.add_lora(lora.rank, lora.alpha, lora.targets, settings.seed)
    beta1, beta2 = optim.betas
    optimizer = torch.optim.AdamW(parameters, optim.rate, (beta1, beta2), optim.epsilon, optim.weight_decay)
    return State(names, parameters, Ema(parameters, optim.ema_decay, optim.ema_interval), optimizer)


def check_training(settings: Config, backbone: Backbone, ranks: int) -> None:
    """Whether what is trained fits the precision, the penalty and the number of ranks.

    Raises:
        ConfigError: it does not.
    """
    optim, full = settings.optim, backbone.train == "full"
    trunks = settings.sampling.groups * settings.sampling.group_size
    wrong = {
        f"train must be lora or full, not {backbone.train!r}": backbone.train not in ("lora", "full"),
        f"optim.kl_unit must be one of {', '.join(KL_UNITS)}, not {optim.kl_unit!r}": optim.kl_unit not in KL_UNITS,
        f"optim.stacked_steps must be positive, not {optim.stacked_steps}": optim.stacked_steps < 1,
        "optim.kl_beta needs train=lora: its reference is the transformer without the adapter": full and optim.kl_beta,
        "train=full needs dtype float32 or bfloat16: gradients of float16 weights underflow": full
        and backbone.dtype == "float16",
        f"train=full in {backbone.dtype} needs two processes or more, which share the float32 weights; start it with "
        "torchrun, or set dtype=float32": full and ranks == 1 and backbone.dtype != "float32",
        f"train=full needs equal shares, and {ranks} processes share {trunks} members of an epoch": full
        and trunks % ranks,
    }
    for message, holds in wrong.items():
        if holds:
            raise config.ConfigError(message)


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
