"""Evaluation: fixed prompts and seeds, deterministic sampler, image sets, and what every judge says of them.

The gold set is what the golds score. A proxy may have a set of its own, on which it alone is scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

import gold_metrics
from baselines.sde import ode_step
from bench import divergence, gradient, noise, prompts, rewards
from bench.config import Config, ConfigError, Evaluation
from bench.experiments import PROXIES, judge_names, metric_of
from bench.noise import Coordinates
from bench.policy import Policy
from bench.preemption import Stop
from bench.prompts import Prompt, PromptError
from bench.ranks import Ranks
from gold_metrics import image_set
from gold_metrics.judging import mean
from gold_metrics.scorer import Entry, Picture, Scorer

if TYPE_CHECKING:
    from bench.session import Session


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts whose images are judged by the same scorers.

    Attributes:
        proxy: whose own set it is; empty for the gold set.
    """

    proxy: str
    prompts: list[Prompt]
    images_per_prompt: int

    def entries(self) -> list[Entry]:
        """The manifest: member by member, in each the prompts in their order."""
        members = range(self.images_per_prompt)
        return [
            Entry(f"{p.id}-{member}.png", "", p.id, p.text, member, p.target)
            for member in members
            for p in self.prompts
        ]

    def batches(self, size: int) -> list[tuple[int, list[Prompt]]]:
        """(member, at most `size` prompts) of each forward pass, in the order of the entries."""
        parts = [self.prompts[start : start + size] for start in range(0, len(self.prompts), size)]
        return [(member, part) for member in range(self.images_per_prompt) for part in parts]


def sets_of(settings: Config) -> list[EvaluationSet]:
    """`load_sets`; with random weights, where no proxy is there to judge its own, the gold set alone."""
    wanted = settings.evaluation
    return load_sets(replace(wanted, proxies={}) if settings.weights == "random" else wanted)


def load_sets(settings: Evaluation) -> list[EvaluationSet]:
    """The gold set, and the proxies' own sets in the order of the table's columns.

    Raises:
        ConfigError: a set for what is no proxy, or without images.
        PromptError: a prompt file cannot be used.
    """
    unknown = sorted(set(settings.proxies) - set(PROXIES))
    if unknown:
        raise ConfigError(f"evaluation.proxies names {', '.join(unknown)}; the proxies are {', '.join(PROXIES)}")
    asked = [("", settings.prompts, settings.images_per_prompt)]
    owned = [(name, settings.proxies[name]) for name in PROXIES if name in settings.proxies]
    asked += [(name, own.prompts, own.images_per_prompt) for name, own in owned]
    for name, _, images in asked:
        if images < 1:
            where = f"evaluation{'.proxies.' * bool(name)}{name}.images_per_prompt"
            raise ConfigError(f"{where} must be at least 1, found {images}")
    return [EvaluationSet(name, prompts.load(Path(path)), images) for name, path, images in asked]


def fingerprint(sets: Sequence[EvaluationSet]) -> str:
    """Hash of all sets; of the gold set alone, that of its prompts."""
    gold, *others = sets
    if not others:
        return prompts.fingerprint(gold.prompts)
    parts = [[each.proxy, each.images_per_prompt, prompts.fingerprint(each.prompts)] for each in others]
    return hashlib.sha256(json.dumps([prompts.fingerprint(gold.prompts), *parts]).encode()).hexdigest()[:16]


def due(sets: Sequence[EvaluationSet], task: str, last: bool) -> list[EvaluationSet]:
    """The sets of one evaluation point: the gold set and the own proxy's for the curve, all of them at the end."""
    return [each for each in sets if last or each.proxy in ("", task)]


def judges(settings: Config) -> list[Scorer]:
    """The proxies and the gold scorers of a scale, in the order of the table's columns, whoever of them is asked when.

    Raises:
        ConfigError: `evaluation.later` names what is no judge of the scale.
    """
    names = judge_names(settings.scale)
    unknown = sorted(set(settings.evaluation.later) - set(names))
    if unknown:
        raise ConfigError(f"evaluation.later names {', '.join(unknown)}; the judges are {', '.join(names)}")
    return [rewards.judge(name, settings.scale, settings.judges) for name in names]


def asked(settings: Evaluation, scorers: Sequence[Scorer]) -> list[Scorer]:
    """Who of `scorers` is asked by the run itself."""
    return [scorer for scorer in scorers if scorer.name not in settings.later]


def check_servers(scorers: Sequence[Scorer]) -> None:
    """Whether the judges that ask a server find it, before images are made for them.

    Raises:
        JudgeServerError: one does not.
    """
    for scorer in scorers:
        if check := getattr(scorer, "check", None):
            check()


def judges_of(wanted: EvaluationSet, sets: Sequence[EvaluationSet], scorers: Sequence[Scorer]) -> list[Scorer]:
    """Who of `scorers` judges the set: its own proxy alone; the gold set, all that have no set of their own.

    Raises:
        PromptError: the proxy has nothing to judge in its own set.
    """
    owners = {each.proxy for each in sets}
    found = [scorer for scorer in scorers if set_of(scorer.name, owners) == wanted.proxy]
    if wanted.proxy and found and not any(scorer.fits(entry) for scorer in found for entry in wanted.entries()):
        raise PromptError(
            f"no prompt of evaluation.proxies.{wanted.proxy} is for the proxy {wanted.proxy}, of {len(wanted.prompts)} "
            f"prompts like {wanted.prompts[0].text!r}; name a file with its targets"
        )
    return found


def set_of(judge: str, owners: Container[str]) -> str:
    """Whose set the judge of that name judges: its own where it is among the `owners`, else the gold set, ""."""
    return judge if judge in owners else ""


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


def write(
    policy: Policy,
    wanted: EvaluationSet,
    seed: int,
    settings: Evaluation,
    folder: Path,
    ranks: Ranks,
    stop: Stop | None = None,
) -> None:
    """Samples the set's images on all ranks, whole batches each, into the image set `folder`; the first rank writes.

    The images do not depend on the number of ranks, to the bit: a batch is the same wherever it is made.

    Raises:
        Preempted: `stop` was asked for between two rounds of batches; no image is kept.
    """
    # One forward a step for each batch, as the ranks of a sharded transformer need equally many.
    size = min(settings.micro_batch, policy.rows or settings.micro_batch)
    listed, pictures = wanted.batches(size), list[Picture]()
    for start in range(0, len(listed), ranks.count):
        if stop:
            stop.check(ranks)
        pictures += _round(policy, listed[start : start + ranks.count], seed, settings.steps, ranks)

    def finish() -> None:
        image_set.write(folder, pictures, wanted.entries())

    ranks.decide(finish)


def _round(
    policy: Policy, listed: list[tuple[int, list[Prompt]]], seed: int, steps: int, ranks: Ranks
) -> list[Picture]:
    """A batch by each rank; on the first rank the images of all, in order."""
    sharded = gradient.sharded(list(policy.transformer.parameters()))
    # A rank that is left without a batch repeats one: a sharded transformer needs every rank in each forward pass.
    member, part = listed[min(ranks.index, len(listed) - 1)]
    work = partial(images, policy, part, seed, member, steps)
    # In a pass over shards nobody could hear of an error: there it ends its rank, and the launcher the others.
    made = list(work() if sharded else ranks.attempt(work))
    return ranks.collect(made if ranks.index < len(listed) else [])


def judge(folder: Path, scorers: Sequence[Scorer], out: Path, run: str, step: int) -> dict[str, float]:
    """Scores the image set of a run at an update, writes every score to `out` and returns the means as metrics.

    A score that could not be had is left out of the mean and counted in `<key>_missing`.
    """
    frame = gold_metrics.judge(image_set.read(folder), scorers, run=run, step=step)
    gold_metrics.write_scores(frame, out)
    return means(frame)


def means(frame: pd.DataFrame) -> dict[str, float]:
    """`proxy/NAME`, `gold/NAME` and `picture/NAME` with `_n` and `_missing`, from a frame of scores."""
    found: dict[str, float] = {}
    for name, scores in frame.groupby("scorer", sort=False):
        key = metric_of(str(name))
        missing = int(scores["score"].isna().sum())
        found |= {key: mean(scores), f"{key}_n": len(scores) - missing, f"{key}_missing": missing}
    return found


def evaluate(session: Session) -> dict[str, float]:
    """One evaluation point: leaves image sets and scores in the run's folder, returns the means as metrics."""
    sets, last = session.evaluation_sets, session.state.update == session.updates
    found: dict[str, float] = {}
    for wanted in due(sets, session.row.task, last):
        found |= _evaluate_set(session, wanted)
    return found | divergence.measure(session)


def _evaluate_set(session: Session, wanted: EvaluationSet) -> dict[str, float]:
    """Images of all ranks by the averaged weights, judged by the first."""
    run, update, settings = session.record.folder, session.state.update, session.config
    name = f"update-{update:06d}"
    folder, scores = run / "images" / wanted.proxy / name, run / "scores" / wanted.proxy / f"{name}.parquet"
    with session.state.ema.swapped_in():
        write(session.policy, wanted, settings.seed, settings.evaluation, folder, session.ranks, session.stop)
    scorers = judges_of(wanted, session.evaluation_sets, asked(settings.evaluation, session.scorers))
    return session.ranks.decide(lambda: judge(folder, scorers, scores, f"{run.parent.name}-{run.name}", update))
