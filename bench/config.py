"""The shape of a run's configuration. What a paper defines is in `baselines`; here is what a scale or a budget sets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from bench import protocols, refusals
from bench.experiments import Row


class ConfigError(ValueError):
    """Settings that do not fit together."""


@dataclass
class Lora:
    """The adapter: rank, alpha and the names of the linear layers that it is added to."""

    rank: int = MISSING
    alpha: int = MISSING
    targets: list[str] = MISSING


@dataclass
class Backbone:
    """A pipeline and how it is run.

    Attributes:
        noise_level: replaces the recipe's where the source names one per backbone.
        dtype: of the frozen transformer and text encoders: float32, bfloat16 or float16.
        cfg_detach, checkpointing: as `policy.load` says.
        train: `lora`, an adapter on frozen weights, or `full`, all of the transformer in float32, its shards spread
            over the ranks and computed with in `dtype`.
        embeddings: folder that keeps prompt embeddings, so that no run holds the text encoders; null: encode each time.
    """

    weights: str = MISSING
    resolution: int = MISSING
    text_tokens: int = MISSING
    guidance: float = MISSING
    noise_level: float | None = None
    dtype: str = "float32"
    cfg_detach: bool = False
    checkpointing: bool = False
    train: str = "lora"
    embeddings: str | None = None
    lora: Lora = field(default_factory=Lora)


@dataclass
class Method:
    """What a protocol changes in the row's recipe: null takes it as it is.

    Attributes:
        recipe: key of `baselines` that stands in for the row's.
        advantage: key of `baselines.advantage.ADVANTAGES`.
    """

    recipe: str | None = None
    advantage: str | None = None


@dataclass
class Task:
    """A proxy's training prompts and how many optimizer updates its rows take; null means the paper's."""

    prompts: str = MISSING
    updates: int | None = None


@dataclass
class Sampling:
    """An epoch's rollout: T steps, `groups` prompts of `group_size` members, `micro_batch` members a forward pass.

    `schedule` is where the flow times come from: the "pipeline" or "dance" (`baselines.dance_grpo.dance_times`).
    """

    steps: int = MISSING
    groups: int = MISSING
    group_size: int = MISSING
    micro_batch: int = MISSING
    schedule: str = "pipeline"


@dataclass
class Optim:
    """AdamW, the KL penalty and how an epoch is cut into updates; equal for all methods under the protocol `paired`.

    Attributes:
        micro_batch: transitions a forward pass.
        stacked_steps: how many denoising steps' transitions may share a forward, as far as `micro_batch` has room.
        kl_beta, kl_unit: weight of the KL to the policy without its adapter, and the unit that it is stated for:
            `with_dt` or `without_dt` (`baselines.terms.KL_UNITS`).
    """

    rate: float = MISSING
    betas: list[float] = MISSING
    weight_decay: float = MISSING
    epsilon: float = MISSING
    clip_norm: float = MISSING
    updates_per_rollout: int = MISSING
    micro_batch: int = MISSING
    ema_decay: float = MISSING
    ema_interval: int = MISSING
    stacked_steps: int = 1
    kl_beta: float = 0.0
    kl_unit: str = "with_dt"


@dataclass
class ProxySet:
    """Evaluation prompts of one proxy's own, and how many images are made of each."""

    prompts: str = MISSING
    images_per_prompt: int = 1


@dataclass
class Evaluation:
    """Fixed prompts and seeds, deterministic sampler, averaged weights, every `every` updates.

    Attributes:
        prompts, images_per_prompt: of the gold set: what the golds score, and the proxies without a set of their own.
        proxies: proxies that are scored on a set of their own alone, since their prompts need a target. A point on the
            way makes the gold set and that of the row's own proxy; a base model's point and a row's last make all.
        micro_batch: prompts a forward pass.
        later: judges that are not asked by the run; `bench.judge` asks them when it is over.
    """

    prompts: str = MISSING
    proxies: dict[str, ProxySet] = field(default_factory=dict)
    images_per_prompt: int = MISSING
    micro_batch: int = MISSING
    steps: int = MISSING
    every: int = MISSING
    later: list[str] = field(default_factory=list)


@dataclass
class Config:
    """One run. `row` names a line of Table 1 or 2; `clip_scale` multiplies every clip range (see the scale's file).

    `judges` holds options of full-size scorers by name; with a `url` the scorer is asked there (`gold_metrics serve`).
    `weights` is "published", or "random" for runs that measure time and memory (`bench.random_weights`). `tf32` lets
    float32 products on a GPU round their factors to 11 bits. `force` repeats a run from nothing: "1" each time, another
    word once, as run.json tells whether it was begun by that word.
    """

    row: str = MISSING
    scale: str = MISSING
    protocol: str = "paired"
    weights: str = "published"
    tf32: bool = False
    seed: int = 0
    updates: int | None = None
    force: str = "0"
    runs: str = MISSING
    suite: str = MISSING
    tracking: str | None = MISSING
    checkpoint_every: int = MISSING
    clip_scale: float = MISSING
    backbones: dict[str, Backbone] = MISSING
    tasks: dict[str, Task] = MISSING
    method: Method = field(default_factory=Method)
    sampling: Sampling = field(default_factory=Sampling)
    optim: Optim = field(default_factory=Optim)
    evaluation: Evaluation = field(default_factory=Evaluation)
    judges: dict[str, dict[str, Any]] = field(default_factory=dict)


def register() -> None:
    """Makes the schema and two resolvers known to Hydra.

    `${package:PATH}` is a path inside the package bench, `${own:KEY,DEFAULT}` the row's own setting (`protocols`).
    """
    ConfigStore.instance().store(name="config", node=Config)
    here = Path(__file__).parent
    OmegaConf.register_new_resolver("package", lambda path: str(here / path), replace=True)
    OmegaConf.register_new_resolver("own", _own, replace=True)


def _own(key: str, default: Any, *, _root_: Any) -> Any:
    return protocols.own(_root_.row, _root_.protocol).get(key, default)


def plain(config: Any) -> Config:
    """The composed configuration as the dataclasses above.

    Raises:
        ConfigError: it has a setting that they do not.
    """
    made = OmegaConf.to_object(config)
    assert isinstance(made, Config)
    if strange := _strangers(made):
        raise ConfigError("; ".join(map(refusals.no_setting, strange)))
    return made


def _strangers(group: Any, prefix: str = "") -> list[str]:
    """Settings that a `+` on the command line added and no code would read."""
    if isinstance(group, dict):
        parts = [_strangers(value, f"{prefix}{key}.") for key, value in group.items() if is_dataclass(value)]
        return [name for part in parts for name in part]
    known = {each.name for each in fields(group)}
    found = [f"{prefix}{name}" for name in vars(group) if name not in known]
    groups = {name: value for name, value in vars(group).items() if is_dataclass(value) or isinstance(value, dict)}
    return found + [name for key, value in groups.items() for name in _strangers(value, f"{prefix}{key}.")]


def planned_updates(config: Config, row: Row) -> int:
    """Optimiser updates of the run: the command line's, else the scale's for the task, else the paper's; 0 for a base.

    Raises:
        ConfigError: not a positive whole number of rollouts, or evaluations that would fall within one.
    """
    if not row.recipe:
        return 0
    budgets = (config.updates, config.tasks[row.task].updates, row.paper_updates)
    chosen = next(budget for budget in budgets if budget is not None)
    parts = config.optim.updates_per_rollout
    if chosen <= 0 or chosen % parts:
        raise ConfigError(f"updates={chosen} is not a positive multiple of optim.updates_per_rollout={parts}")
    every = config.evaluation.every
    if every <= 0 or every % parts:
        raise ConfigError(f"evaluation.every={every} is not a positive multiple of optim.updates_per_rollout={parts}")
    return chosen


def planned_epochs(config: Config, row: Row) -> int:
    """Rollouts of the run.

    Raises:
        ConfigError: as `planned_updates`.
    """
    return planned_updates(config, row) // config.optim.updates_per_rollout


def folder_of(config: Config, row: Row) -> Path:
    """Where the run of a row and seed lives."""
    return Path(config.runs) / row.name / f"seed{config.seed}"
