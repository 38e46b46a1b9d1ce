"""What a run is made of: its request, its recipe, the hashes that make runs comparable, the packages."""

from __future__ import annotations

import hashlib
import math
import platform
import socket
import subprocess
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import config as configuration
from bench import noise, passes, policy, prompts, sample
from bench.config import Config
from bench.experiments import Row
from bench.ledger import flatten
from bench.record import LedgerError
from gold_metrics.scorer import definition_hash

if TYPE_CHECKING:
    from bench.session import Session

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "safetensors")


def describe(session: Session) -> dict[str, Any]:
    """The content of run.json: the same for the same request and code, byte for byte."""
    config, row, recipe = session.config, session.row, session.recipe
    sampling = config.sampling
    return {
        "run_id": f"{config.suite}/{row.name}/seed{config.seed}",
        "row": row.name,
        "method": row.method,
        "setting": row.setting,
        "backbone": row.backbone,
        "task": row.task,
        "recipe": recipe.columns() if recipe else {},
        "seed": config.seed,
        "scale": config.scale,
        "protocol": config.protocol,
        "weights": config.weights,
        "suite": config.suite,
        "updates": session.updates,
        "paper_updates": row.paper_updates,
        "latent_elements": math.prod(session.policy.latent_shape),
        "train_steps": sampling.steps,
        "groups": sampling.groups,
        "group_size": sampling.group_size,
        "cost": cost(config, row),
        "hashes": hashes(session),
        "definitions": {scorer.name: definition_hash(scorer.definition) for scorer in session.scorers},
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "config": asdict(config),
    }


def cost(settings: Config, row: Row) -> dict[str, float]:
    """What an optimizer update costs: members of groups drawn, their images decoded and rewarded, forwards of the
    velocity in rollouts, and transitions trained, each with a backward. A base model costs nothing.
    """
    counted, updates = passes.passes_of(settings, row), configuration.planned_updates(settings, row)
    whole = {
        "images": counted.images // (counted.finals or 1),
        "decodes": counted.images,
        "rollout_forwards": counted.rollout,
        "trained_transitions": counted.transitions,
    }
    return {name: number / updates for name, number in whole.items()} if updates else {}


# Settings that change no number of a run, and paths: what is behind them is in the hashes.
FREE = {"force", "runs", "suite", "tracking", "prompts", "weights", "judges", "embeddings", "checkpoint_every", "later"}


def check_same(info: dict[str, Any], settings: Config, folder: Path) -> None:
    """Whether the run that `info` describes was asked for with these settings.

    Raises:
        LedgerError: it was not; going on would mix two runs, skipping it would show one for the other.
    """
    then, now = (flatten(config) for config in (info["config"], asdict(settings)))
    changed = [key for key in now | then if then.get(key) != now.get(key) and not FREE & {*key.split(".")}]
    if changed:
        shown = ", ".join(f"{key} was {then.get(key)}, now {now.get(key)}" for key in changed[:3])
        raise LedgerError(
            f"the run in {folder} has other settings ({shown}); FORCE=1 repeats it, runs= puts this one elsewhere"
        )


def check_same_inputs(info: dict[str, Any], now: dict[str, str], folder: Path) -> None:
    """Whether the hashes `now` are those of the run that `info` describes.

    Raises:
        LedgerError: they are not; what is behind a path has changed since the run began.
    """
    changed = [key for key in now if info["hashes"].get(key) != now[key]]
    if changed:
        raise LedgerError(
            f"the run in {folder} was made with other {' and '.join(changed)}; FORCE=1 repeats it, "
            "runs= puts this one elsewhere"
        )


def inputs(settings: Config, row: Row) -> dict[str, str]:
    """Hashes of what the settings only name: `weights`, `evaluation` prompts and, for a method, training `prompts`.

    `evaluation` covers every set, also one that the row makes at its end alone; `prompts`, every epoch's in order.

    Raises:
        PromptError, ConfigError: prompts or budgets cannot be used.
    """
    published = settings.weights == "published"
    weights = policy.fingerprint(settings.backbones[row.backbone].weights) if published else settings.weights
    found = {"weights": weights, "evaluation": sample.fingerprint(sample.sets_of(settings))}
    if not row.recipe:
        return found
    epochs = configuration.planned_epochs(settings, row)
    listed = prompts.load(Path(settings.tasks[row.task].prompts), repeats=True)
    trained = prompts.of_run(listed, settings.sampling.groups, settings.seed, epochs)
    return found | {"prompts": prompts.fingerprint(trained)}


def hashes(session: Session) -> dict[str, str]:
    """What must agree between runs that are compared: `inputs`, `noise` at fixed coordinates, the `judges`."""
    shape, first = session.policy.latent_shape, session.evaluation_sets[0].prompts[0].id
    definitions = " ".join(definition_hash(scorer.definition) for scorer in session.scorers)
    return inputs(session.config, session.row) | {
        "noise": noise.fingerprint(session.config.seed, first, shape),
        "judges": hashlib.sha256(definitions.encode()).hexdigest()[:16],
    }


@cache
def git_commit() -> str:
    """The checkout's commit, with `-dirty` where tracked files differ from it; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def host() -> dict[str, Any]:
    """Where an epoch ran, and by which code; kept apart from the metrics, which must not depend on it."""
    return {"host": socket.gethostname(), "machine": platform.machine(), "git_commit": git_commit()}
