"""How often a run does what, from its settings alone: the counts that `bench.costs` multiplies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench import prompts
from bench.config import Config, planned_epochs, planned_updates
from bench.experiments import Row, judge_names
from bench.loading import texts_of
from bench.prompt_sets import SETS
from bench.sample import load_sets
from bench.session import recipe_of


@dataclass(frozen=True)
class Passes:
    """How often a run does what.

    Attributes:
        epoch: members of an epoch.
        transitions: trained over the run, each once.
        rollout: forwards of the velocity over the run.
        prompts: embedded for training, an epoch's each once.
        images: decoded for training; `finals` of each member.
        evaluated, scored: images of all evaluation points, and their scores.
    """

    epoch: int = 0
    transitions: int = 0
    rollout: int = 0
    prompts: int = 0
    images: int = 0
    finals: int = 0
    evaluated: int = 0
    scored: int = 0


def prompts_in(path: Path, unknown: int = 0) -> int:
    """How many different prompts: in the file, or where it is yet to be made, in the public set it is made of.

    Args:
        unknown: what to say of a public set whose size is not known; 0 is no answer.

    Raises:
        PromptError: no answer.
    """
    name, _, split = path.stem.rpartition("_")
    known = SETS[name].files.get(split) if name in SETS else None
    listed = (known.different or known.lines or unknown) if known else 0
    return listed if listed and not path.exists() else len(prompts.load(path))


def evaluations(updates: int, every: int) -> int:
    """Evaluation points of a run: before it, after every `every` updates, and at its end."""
    return 1 + -(-updates // every)


def passes_of(settings: Config, row: Row) -> Passes:
    """Counts a run's rollouts, trained transitions and evaluations from its settings."""
    recipe, sampling, epochs = recipe_of(settings, row), settings.sampling, planned_epochs(settings, row)
    evaluated, scored = _evaluated(settings, row)
    if recipe is None:
        return Passes(evaluated=evaluated, scored=scored)
    members, steps = sampling.groups * sampling.group_size, sampling.steps
    cost, candidates = recipe.plan.cost(steps), torch.zeros(1, steps - 1)
    return Passes(
        epoch=members,
        transitions=epochs * members * int(recipe.plan.mask(candidates).sum()),
        rollout=round(epochs * members * cost.forwards),
        prompts=epochs * sampling.groups,
        images=epochs * members * cost.images,
        finals=cost.images,
        evaluated=evaluated,
        scored=scored,
    )


def _evaluated(settings: Config, row: Row) -> tuple[int, int]:
    """Images of all evaluation points, and their scores: `sample.due` and `sample.judges_of` in numbers."""
    wanted = settings.evaluation
    points = evaluations(planned_updates(settings, row), wanted.every)
    gold = points * prompts_in(Path(wanted.prompts)) * wanted.images_per_prompt
    own = sum(
        (points if name == row.task else 1) * prompts_in(Path(each.prompts)) * each.images_per_prompt
        for name, each in wanted.proxies.items()
    )
    return gold + own, gold * (len(judge_names(settings.scale)) - len(wanted.proxies)) + own


def embedded(settings: Config, row: Row) -> int:
    """Prompts whose embeddings the run stores: those of `loading.texts_of`, at most, and the empty one of guidance.

    Raises:
        PromptError: as `prompts_in`.
    """
    evaluation = settings.evaluation
    judged = [Path(evaluation.prompts), *(Path(each.prompts) for each in evaluation.proxies.values())]
    trained = [Path(settings.tasks[row.task].prompts)] if row.task else []
    if all(path.exists() for path in judged + trained):
        listed = prompts.load(trained[0], repeats=True) if trained else []
        return 1 + len(texts_of(settings, row, listed, load_sets(evaluation)))
    draws = planned_epochs(settings, row) * settings.sampling.groups
    drawn = sum(min(draws, prompts_in(path, unknown=draws)) for path in trained)
    return 1 + drawn + sum(prompts_in(path) for path in judged)
