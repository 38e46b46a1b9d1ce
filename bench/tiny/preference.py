"""Trains the `pickscore` proxy: Bradley-Terry on pairs of pictures of one prompt, labelled by a judge passed in.

The pictures are clean renders, renders damaged in graded ways, and renders of a wrong prompt, together with a
generator's samples where there are some. Of the judge nothing enters the model but its verdicts on those pairs.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor
from tqdm import trange

import gold_metrics
from bench.rewards.pickscore import REAL_MEAN, PreferenceModel, logits, pixels, tokens
from bench.tiny.grammar import ALPHABET, COLORS, RELATIONS, SHAPES, Target, all_prompts, held_out
from bench.tiny.render import SIDE, Picture, render
from gold_metrics.scorer import Entry

GROUPS = 5000  # prompts drawn, six pictures each: our choice, what three minutes on one core allow
HELD_OUT_GROUPS = 300  # 1,800 pictures: a standard error of 1 % on a share of pairs
STEPS, BATCH = 1500, 96  # pairs per step: our choice by the same budget
RATE, WARMUP, DECAY = 3e-3, 1 / 30, 1e-2  # AdamW; warm-up as a share of the steps, then cosine to 0: our choice
MARGIN = 0.02  # labels closer than this are a tie and make no pair: our choice
# Strength of each damage at level 1: our choice, the point where a picture is barely the same.
BLUR, NOISE, SHIFT, STRIPES = 1.5, 40.0, 50.0, 40.0  # pixels; gray levels of 255

Label = Callable[[list[Picture], list[Entry]], NDArray[np.float64]]
"""Goodness of each picture for its entry's prompt; NaN where it cannot be said."""


@dataclass(frozen=True)
class Candidates:
    """Pictures (V, 32, 32, 3) uint8 of one prompt, to be compared with each other."""

    prompt: str
    target: Target
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Pairs:
    """M pictures with their prompts, and which of them is better than which."""

    pictures: NDArray[np.uint8]
    prompts: list[str]
    better: NDArray[np.int64]
    worse: NDArray[np.int64]


def by_oracles(pictures: list[Picture], entries: list[Entry]) -> NDArray[np.float64]:
    """The mean of the gold oracles' correctness and cleanliness: what the shipped model was taught."""
    oracles = [gold_metrics.load(name) for name in ("correctness", "cleanliness")]
    scores = [[score.value for score in oracle.score(pictures, entries)] for oracle in oracles]
    return np.asarray(np.mean(scores, axis=0), dtype=np.float64)


def damage(picture: Picture, level: float, rng: np.random.Generator) -> Picture:
    """One of blur, noise, color shift and stripes, chosen by `rng`, at `level` in [0, 1]."""
    kind = rng.choice(["blur", "noise", "shift", "stripes"])
    values = picture.astype(np.float64)
    if kind == "blur":
        values = ndimage.gaussian_filter(values, (BLUR * level, BLUR * level, 0))
    elif kind == "noise":
        values += NOISE * level * rng.standard_normal(values.shape)
    elif kind == "shift":
        values += SHIFT * level * rng.uniform(-1, 1, 3)
    else:
        period = int(rng.integers(2, 5))
        wave = STRIPES * level * ((np.arange(SIDE) // period) % 2 - 0.5)
        values += wave[:, None, None] if rng.random() < 0.5 else wave[None, :, None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _other(choices: Sequence[str], now: str, rng: np.random.Generator) -> str:
    return str(rng.choice([choice for choice in choices if choice != now]))


def near_miss(target: Target, rng: np.random.Generator) -> Target:
    """`target` with one thing wrong: a letter, a color, a shape, a count or the relation."""
    wrong = copy.deepcopy(target)
    if target["family"] == "text":
        letters = list(target["text"])
        place = int(rng.integers(len(letters)))
        letters[place] = _other(ALPHABET, letters[place], rng)
        return wrong | {"text": "".join(letters)}
    faults = [
        "color",
        "shape",
        *["count"] * (target["category"] == "counting"),
        *["relation"] * bool(target["relation"]),
    ]
    fault = str(rng.choice(faults))
    thing = wrong["objects"][int(rng.integers(len(wrong["objects"])))]
    if fault == "count":
        thing["count"] = int(rng.choice([n for n in (1, 2, 3) if n != thing["count"]]))
    elif fault == "relation":
        wrong["relation"] = _other(RELATIONS, target["relation"], rng)
    else:
        thing[fault] = _other(COLORS if fault == "color" else SHAPES, thing[fault], rng)
    return wrong


def draw(count: int, rng: np.random.Generator, for_training: bool) -> list[Candidates]:
    """Candidates for `count` prompts, each category equally often; held-out ones for evaluation.

    Each has six pictures: a render, the same damaged, another one damaged, a near miss clean and damaged, and a
    render of an unrelated prompt.
    """
    pool: dict[str, list[tuple[str, Target]]] = {}
    for prompt, target in all_prompts():
        small = target["category"] in ("single_object", "counting")  # never held out: too few
        if small or held_out(prompt, target) != for_training:
            pool.setdefault(target["category"], []).append((prompt, target))
    everything = list(itertools.chain.from_iterable(pool.values()))
    groups = []
    for i in trange(count, desc="painting", leave=False):
        prompts = pool[sorted(pool)[i % len(pool)]]
        prompt, target = prompts[int(rng.integers(len(prompts)))]
        unrelated = everything[int(rng.integers(len(everything)))][1]
        shown = (target, target, near_miss(target, rng), unrelated)
        clean, again, miss, other = (render(t, rng) for t in shown)
        worn = [damage(p, rng.uniform(0.1, 1), rng) for p in (clean, again, miss)]
        groups.append(Candidates(prompt, target, np.stack([clean, worn[0], worn[1], miss, worn[2], other])))
    return groups


def _labels(group: Candidates, label: Label) -> NDArray[np.float64]:
    entry = Entry("", "", group.prompt, group.prompt, 0, group.target)
    return label(list(group.pictures), [entry] * len(group.pictures))


def compare(groups: Sequence[Candidates], label: Label) -> Pairs:
    """All pairs within each group whose labels differ by more than MARGIN.

    Raises:
        ValueError: there is none.
    """
    better, worse, start = [], [], 0
    for k in trange(len(groups), desc="labelling", leave=False):
        values = _labels(groups[k], label)
        ahead = np.argwhere(values[:, None] > values[None, :] + MARGIN) + start
        better.append(ahead[:, 0])
        worse.append(ahead[:, 1])
        start += len(values)
    if not sum(map(len, better)):
        raise ValueError(f"no two pictures of one prompt have labels {MARGIN} apart: check `label`")
    prompts = [group.prompt for group in groups for _ in group.pictures]
    pictures = np.concatenate([group.pictures for group in groups])
    return Pairs(pictures, prompts, np.concatenate(better), np.concatenate(worse))


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (WARMUP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(model: PreferenceModel, pictures: Tensor, words: Tensor) -> Tensor:
    """Bradley-Terry: -log sigmoid(better - worse), averaged; the better pictures are the first half."""
    better, worse = model(pictures, words).chunk(2)
    return -F.logsigmoid(better - worse).mean()


def _fit(pairs: Pairs, seed: int, steps: int) -> PreferenceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PreferenceModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    words, rng = tokens(pairs.prompts), np.random.default_rng(seed)
    progress = trange(steps, desc="preference model")
    for _ in progress:
        chosen = rng.integers(len(pairs.better), size=BATCH)
        rows = np.concatenate([pairs.better[chosen], pairs.worse[chosen]])
        loss = _loss(model, pixels(pairs.pictures[rows]), words[torch.from_numpy(rows)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval()


def _evaluate(model: PreferenceModel, groups: list[Candidates], label: Label) -> dict[str, float]:
    """Shares of held-out pairs ranked rightly; sets the model's center and spread from the same pictures."""
    pairs = compare(groups, label)
    values = logits(model, pairs.pictures, pairs.prompts)
    by_group = values.reshape(len(groups), -1)
    spread = 1 / float(values.std())
    model.spread.fill_(spread)
    model.center.fill_(REAL_MEAN - spread * float(by_group[:, 0].mean()))
    return {
        "held_out_pairs": float(len(pairs.better)),
        "held_out_pair_accuracy": float((values[pairs.better] > values[pairs.worse]).mean()),
        "clean_over_damaged": float((by_group[:, 0] > by_group[:, 1]).mean()),
        "right_over_near_miss": float((by_group[:, 0] > by_group[:, 3]).mean()),
    }


def train(
    out: Path,
    label: Label,
    seed: int = 0,
    steps: int = STEPS,
    groups: int = GROUPS,
    held_out_groups: int = HELD_OUT_GROUPS,
    samples: Sequence[Candidates] = (),
) -> dict[str, float]:
    """Trains the model and writes its weights to `out` (safetensors, replaced in one move).

    Args:
        out: file to write; its folder must exist.
        label: the judge of the training pairs.
        seed: of pictures, initial weights and order; the same seed gives the same file on one thread.
        steps: of BATCH pairs.
        groups: prompts drawn for training, six pictures each.
        held_out_groups: prompts drawn for evaluation.
        samples: a generator's pictures, several of each prompt.

    Returns:
        What a card should say: pictures, pairs, steps, and the shares of held-out pairs ranked rightly.
    """
    rng = np.random.default_rng(seed)
    pairs = compare([*draw(groups, rng, for_training=True), *samples], label)
    model = _fit(pairs, seed, steps)
    report = _evaluate(model, draw(held_out_groups, rng, for_training=False), label)
    partial = out.with_name(out.name + ".partial")
    save_file(model.state_dict(), partial)
    partial.replace(out)
    return {
        "pictures": float(len(pairs.pictures)),
        "pairs": float(len(pairs.better)),
        "steps": float(steps),
    } | report
