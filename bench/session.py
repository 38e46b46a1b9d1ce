"""Everything that a run holds while it trains, made from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

import baselines
from baselines.advantage import ADVANTAGES
from baselines.dance_grpo import dance_times
from baselines.recipe import Recipe
from baselines.terms import KL_UNITS
from bench import config, loading, prompts, rewards, sample
from bench.checkpoint import State
from bench.config import Backbone, Config
from bench.ema import Ema
from bench.experiments import Row, find_row
from bench.policy import DTYPES, Policy
from bench.preemption import Stop
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.record import Record
from bench.rewards.stand_in import StandIn
from bench.sample import EvaluationSet
from gold_metrics.scorer import Scorer

T = TypeVar("T")
SCHEDULES: dict[str, Callable[[Policy, int], Tensor]] = {
    "pipeline": lambda policy, steps: policy.times(steps),
    "dance": lambda policy, steps: dance_times(steps).to(policy.device),
}


@dataclass
class Session:
    """A run in the making.

    Attributes:
        recipe, proxy: the method and what it is rewarded by; None for a base model.
        updates: planned optimizer updates, 0 for a base model.
        evaluation_sets: the gold set, then the proxies' own.
        scorers: the judges of evaluations, proxies and golds, also those that are asked later.
    """

    config: Config
    row: Row
    recipe: Recipe | None
    proxy: Scorer | None
    policy: Policy
    state: State
    record: Record
    train_prompts: list[Prompt]
    evaluation_sets: list[EvaluationSet]
    ranks: Ranks
    updates: int
    scorers: list[Scorer]
    stop: Stop

    def times(self) -> Tensor:
        """The flow times (T + 1,) of rollouts and updates; an evaluation takes the pipeline's."""
        return SCHEDULES[self.config.sampling.schedule](self.policy, self.config.sampling.steps)


def choose(setting: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of `known` that a setting names.

    Raises:
        ConfigError: there is none.
    """
    if name not in known:
        raise config.ConfigError(f"{setting}={name} is unknown; wanted one of {', '.join(known)}")
    return known[name]


def recipe_of(settings: Config, row: Row) -> Recipe | None:
    """The row's recipe with the protocol's changes, the scale's clip and the backbone's noise level; None for a base.

    Raises:
        ConfigError: a setting names what is not, or the recipe is defined for another micro-batch.
    """
    if not row.recipe:
        return None
    method = settings.method
    recipe = choose("method.recipe", method.recipe or row.recipe, baselines.RECIPES | baselines.ABLATION)
    _check_batch(settings, recipe)
    return replace(
        recipe,
        advantage=choose("method.advantage", method.advantage, ADVANTAGES) if method.advantage else recipe.advantage,
        clip=(row.clip or recipe.clip) * settings.clip_scale,
        noise_level=settings.backbones[row.backbone].noise_level or recipe.noise_level,
    )


def _check_batch(settings: Config, recipe: Recipe) -> None:
    optim = settings.optim
    if recipe.batch > 1 and (optim.micro_batch, optim.stacked_steps) != (recipe.batch, 1):
        raise config.ConfigError(
            f"{recipe.name} takes a mean over the {recipe.batch} samples of one step in a micro-batch, found "
            f"optim.micro_batch={optim.micro_batch} optim.stacked_steps={optim.stacked_steps}; give it "
            f"optim.micro_batch={recipe.batch} optim.stacked_steps=1"
        )


def prepare(settings: Config, ranks: Ranks, stop: Stop | None = None) -> Session:
    """Reads the prompts, loads the scorers and the pipeline and adds the adapter; the same on each of `ranks`.

    Raises:
        RowError, PromptError, PolicyError, ConfigError, WeightsError, OSError: what the run needs is missing or does
            not fit.
    """
    row = find_row(settings.row)
    recipe, backbone = recipe_of(settings, row), settings.backbones[row.backbone]
    choose("sampling.schedule", settings.sampling.schedule, SCHEDULES)
    random = choose("weights", settings.weights, {"published": False, "random": True})
    check_groups(settings, recipe, ranks.count)
    check_training(settings, backbone, recipe, ranks.count)
    train_prompts = prompts.load(Path(settings.tasks[row.task].prompts), repeats=True) if row.task else []
    sets = sample.sets_of(settings)
    scorers: list[Scorer] = [StandIn()] if random else sample.judges(settings)
    asked = sample.asked(settings.evaluation, scorers)
    ranks.decide(lambda: sample.check_servers(asked))
    for each in sets:
        sample.judges_of(each, sets, asked)  # refuses a set that its proxy cannot judge
    loaded = loading.load(settings, row, ranks, loading.texts_of(settings, row, train_prompts, sets))
    return Session(
        config=settings,
        row=row,
        recipe=recipe,
        proxy=_proxy(settings, row, random),
        policy=loaded,
        state=_fresh_state(settings, loaded, backbone, ranks),
        record=Record(config.folder_of(settings, row), writes=ranks.first),
        train_prompts=train_prompts,
        evaluation_sets=sets,
        ranks=ranks,
        updates=config.planned_updates(settings, row),
        scorers=scorers,
        stop=stop or Stop(),
    )


def _proxy(settings: Config, row: Row, random: bool) -> Scorer | None:
    if random and row.task:
        return StandIn()
    return rewards.load(row.task, settings.scale, settings.judges, rewarding=True) if row.task else None


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


def check_training(settings: Config, backbone: Backbone, recipe: Recipe | None, ranks: int) -> None:
    """Whether what is trained fits the precision, the penalty and the number of ranks.

    Raises:
        ConfigError: it does not.
    """
    optim, full = settings.optim, backbone.train == "full"
    trunks = settings.sampling.groups * settings.sampling.group_size // (recipe.plan.branches if recipe else 1)
    wrong = {
        f"train must be lora or full, not {backbone.train!r}": backbone.train not in ("lora", "full"),
        f"optim.kl_unit must be one of {', '.join(KL_UNITS)}, not {optim.kl_unit!r}": optim.kl_unit not in KL_UNITS,
        f"optim.stacked_steps must be positive, not {optim.stacked_steps}": optim.stacked_steps < 1,
        "optim.kl_beta needs train=lora: its reference is the transformer without the adapter": full and optim.kl_beta,
        "train=full needs dtype float32 or bfloat16: gradients of float16 weights underflow": full
        and backbone.dtype == "float16",
        f"train=full in {backbone.dtype} needs two processes or more, which share the float32 weights; start it with "
        "torchrun, or set dtype=float32": full and ranks == 1 and backbone.dtype != "float32",
        f"train=full needs equal shares, and {ranks} processes share {trunks} trunks of an epoch": full
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
