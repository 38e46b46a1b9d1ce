"""How good the little world's weights are: measured on fixed prompts and seeds, told in the card beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from bench import rewards, sample
from bench.policy import DECODE_CHUNK, Policy
from bench.prompts import Prompt
from bench.rewards.pickscore import PickScore
from bench.tiny.grammar import Target, all_prompts, held_out
from bench.tiny.render import render
from gold_metrics import Entry, Scorer, load

STEPS = 10  # as the tiny scale samples: bench/conf/scale/tiny.yaml
PER_PROMPT = 2
JUDGES = ("correctness", "cleanliness")
PROXIES = ("geneval", "pickscore", "text")
TRAINED = ("single_object", "counting")  # categories with too few members to hold any out
FAMILIES = {"objects, held out": ("position", "colors"), "objects, all": (*TRAINED, "position", "colors")}

Pictures = NDArray[np.uint8]
Numbers = dict[str, float]

TEMPLATE = """# The weights of the little world

`sd3` and `flux` are diffusers pipelines that paint 32x32 pictures of shapes and letters (`bench/tiny/grammar.py` has
their prompts, `bench/tiny/render.py` their pictures); `preference.safetensors` is the `pickscore` proxy. They hold
nothing but what the renderer painted. `python -m bench.tiny.build` makes them again and writes this card.

Together {megabytes:.2f} MB (without this card).

## How they were made

{made}

{machine}
Trained on {pictures:,} rendered pictures; one prompt in five with relations, with two colors or with letters was held
out. Both pipelines share the autoencoder. Text encoders were first taught to tell the facts of every prompt ("left
red", "letter 1 K"), also of those whose pictures are held out, then frozen; of the prompts that they were taught on
their pooled embedding tells every fact right for {reading}. Limits: no distillation of guidance (Flux's guidance input
is there, and meaningless), no other prompts than the grammar's.

## How good they are

{per_prompt} pictures of each prompt, {steps} deterministic steps, no classifier-free guidance, seed {seed}. *Exact* is
the share of pictures whose correctness is 1. Prompts marked * are not held out: those categories have too few members.

{quality}

The preference model learned from {preference[pairs]:,.0f} pairs among {preference[pictures]:,.0f} pictures,
{preference[sampled_pictures]:,.0f} of them samples of the two pipelines. Of {preference[held_out_pairs]:,.0f} held-out
pairs it ranks {preference[held_out_pair_accuracy]:.3f} as the oracles do (by the mean of correctness and cleanliness,
pairs more than {preference[margin]} apart); in {preference[held_out_groups]:,.0f} cases it puts a render above its
damaged twin in {preference[clean_over_damaged]:.3f}, above a render with a single fault in
{preference[right_over_near_miss]:.3f}.
"""


def as_prompt(text: str, target: Target) -> Prompt:
    """A prompt of the grammar, with the id that a prompt file would give it."""
    return Prompt(hashlib.sha256(text.encode()).hexdigest()[:12], text, target)


def prompts() -> list[Prompt]:
    """Every held-out prompt, and every prompt of the categories that hold none out."""
    pairs = [pair for pair in all_prompts() if held_out(*pair) or pair[1]["category"] in TRAINED]
    return [as_prompt(*pair) for pair in pairs]


def renders(asked: Sequence[Prompt], seed: int) -> Pictures:
    """PER_PROMPT renders of each prompt, uint8 (PER_PROMPT * P, 32, 32, 3), in rounds over the prompts."""
    rng = np.random.default_rng(seed)
    return np.stack([render(prompt.target or {}, rng) for _ in range(PER_PROMPT) for prompt in asked])


@torch.no_grad()
def reconstructions(vae: Any, pictures: Pictures) -> Pictures:
    """Uint8 (N, H, W, 3) pictures as the autoencoder gives them back from its latents' means."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    decoded = [vae.decode(vae.encode(part / 127.5 - 1).latent_dist.mean).sample for part in images.split(DECODE_CHUNK)]
    back = (torch.cat(decoded) / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return back.permute(0, 2, 3, 1).contiguous().numpy()


def sampled(policy: Policy, asked: Sequence[Prompt], seed: int, per_prompt: int = PER_PROMPT) -> Pictures:
    """Deterministic samples of each prompt, uint8 (per_prompt * P, H, W, 3), in rounds over the prompts."""
    rounds = tqdm(range(per_prompt), type(policy).__name__, leave=False)
    return np.concatenate([sample.images(policy, asked, seed, member, STEPS) for member in rounds])


def scorers(preference: Path) -> list[Scorer]:
    """The per-image oracles and the proxies; the preference model's weights are in the file `preference`."""
    proxies = [PickScore(preference) if name == "pickscore" else rewards.load(name) for name in PROXIES]
    return [*(load(name) for name in JUDGES), *proxies]


def measure(pictures: Pictures, asked: Sequence[Prompt], judges: Sequence[Scorer]) -> dict[str, Numbers]:
    """What the judges say of pictures in rounds over the prompts: for each category and family, then `all`.

    Returns:
        By row: `n` pictures, `exact` (share of correctness 1), and each judge's mean over what fits it.
    """
    shown = [*asked] * (len(pictures) // len(asked))
    entries = [Entry("", "", p.id, p.text, 0, p.target) for p in shown]
    values = {judge.name: _values(judge, pictures, entries) for judge in judges}
    values = {"exact": (values["correctness"] == 1).astype(np.float64)} | values
    categories = np.array([(p.target or {})["category"] for p in shown])
    rows = {name: (name,) for name in dict.fromkeys(categories.tolist())} | FAMILIES
    return {name: _means(values, np.isin(categories, members)) for name, members in rows.items()} | {
        "all": _means(values, np.ones(len(shown), dtype=bool))
    }


def _values(judge: Scorer, pictures: Pictures, entries: Sequence[Entry]) -> NDArray[np.float64]:
    """A judge's score of each picture; NaN where it does not fit."""
    fits = [i for i, entry in enumerate(entries) if judge.fits(entry)]
    values = np.full(len(entries), np.nan)
    values[fits] = [score.value for score in judge.score([pictures[i] for i in fits], [entries[i] for i in fits])]
    return values


def _means(values: Mapping[str, NDArray[np.float64]], rows: NDArray[np.bool_]) -> Numbers:
    known = {name: each[rows][~np.isnan(each[rows])] for name, each in values.items()}
    return {"n": float(rows.sum())} | {name: float(each.mean()) for name, each in known.items() if len(each)}


def markdown(numbers: Mapping[str, Any], megabytes: float) -> str:
    """The card.

    Args:
        numbers: `machine` (a sentence), `pictures`, `seed`, `stages` (rows of stage, parameters, steps, batch, seed,
            seconds; None where unknown), `reading` (share of prompts, by pipeline), `quality` (source ->
            result of `measure`), `preference` (what `bench.tiny.preference.train` returned, with `margin`,
            `sampled_pictures`, `held_out_groups`).
        megabytes: size of all weights together, in 10^6 bytes.
    """
    return TEMPLATE.format(
        megabytes=megabytes,
        made=_made(numbers["stages"]),
        reading=" and ".join(f"{share:.0%} ({name})" for name, share in numbers["reading"].items()),
        quality="\n\n".join(_quality(source, rows) for source, rows in numbers["quality"].items()),
        per_prompt=PER_PROMPT,
        steps=STEPS,
        **{key: numbers[key] for key in ("machine", "pictures", "seed", "preference")},
    )


def _made(stages: Sequence[Mapping[str, Any]]) -> str:
    show: dict[str, Callable[[Any], str]] = {"parameters": "{:,}".format, "seconds": "{:,.0f}".format}
    columns = ("stage", "parameters", "steps", "batch", "seed", "seconds")
    rows = [["not recorded" if stage[c] is None else show.get(c, str)(stage[c]) for c in columns] for stage in stages]
    table: str = tabulate(rows, columns, tablefmt="github", disable_numparse=True)
    return table


def _quality(source: str, rows: Mapping[str, Numbers]) -> str:
    columns = ("exact", *JUDGES, *PROXIES)
    lines = [
        [_marked(name), f"{row['n']:.0f}", *(f"{row[c]:.3f}" if c in row else "" for c in columns)]
        for name, row in rows.items()
    ]
    table: str = tabulate(lines, ("prompts", "n", *columns), tablefmt="github", disable_numparse=True)
    return f"### {source}\n\n{table}"


def _marked(name: str) -> str:
    return f"{name} *" if name in (*TRAINED, "objects, all", "all") else name
