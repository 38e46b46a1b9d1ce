"""Teaches a pipeline's text encoders to read, before any picture is seen: which facts does a prompt state?

Real text encoders come trained on far more text than a generator sees pictures for, and stay frozen. These learn to
tell the scene of every prompt, also of those whose pictures are held out, by linear heads that are then thrown away.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bench.policy import Policy
from bench.tiny import fit
from bench.tiny.grammar import Target, all_prompts

STEPS, BATCH = 3000, 64  # CLIP's causal encoders need most of them
RATE = 2e-3  # twice that, and the T5 encoders learn only half of the prompts

PARTS = ("color", "shape")
# Where the two things of a relation stand, in the order in which the prompt names them.
PLACES = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
    None: ("first", "second"),
}


def scene(target: Target) -> set[str]:
    """The facts that a prompt states, such as "left red", "left circle" or "letter 1 K"."""
    if target["family"] == "text":
        return {f"letter {i} {letter}" for i, letter in enumerate(target["text"], 1)}
    things = target["objects"]
    places = PLACES[target["relation"]] if len(things) == 2 else (f"all {things[0]['count']}",)
    return {f"{place} {thing[part]}" for place, thing in zip(places, things, strict=True) for part in PARTS}


class Heads(nn.Module):
    """Tell every fact from the pooled embedding, and again from the mean of all tokens."""

    def __init__(self, pooled_width: int, token_width: int, facts: int) -> None:
        super().__init__()
        self.pooled, self.tokens = nn.Linear(pooled_width, facts), nn.Linear(token_width, facts)

    def forward(self, policy: Policy, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Logits (n, facts), twice."""
        read = policy.encode(prompts)
        return self.pooled(read.pooled), self.tokens(read.tokens.mean(dim=1))


def teach(policy: Policy, folder: Path, seed: int) -> float:
    """Trains the text encoders, resumably, and freezes them.

    Returns:
        Share of the prompts of which the pooled embedding tells every fact right.
    """
    pairs = all_prompts()
    prompts = [prompt for prompt, _ in pairs]
    stated, weight = (
        facts([target for _, target in pairs]),
        torch.tensor(fit.category_weights(pairs, fit.CATEGORY_WEIGHT)),
    )
    probe = policy.encode(prompts[:1])
    torch.manual_seed(seed)
    heads = Heads(probe.pooled.shape[-1], probe.tokens.shape[-1], stated.shape[1])
    readers = nn.ModuleList([*policy.text_encoders(), heads]).requires_grad_(True)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.multinomial(weight, BATCH, replacement=True, generator=generator)
        told = heads(policy, [prompts[row] for row in rows])
        misses = [nn.functional.binary_cross_entropy_with_logits(each, stated[rows]) for each in told]
        return torch.stack(misses).sum()

    fit.fit(f"{type(policy).__name__}.reading", readers, loss, STEPS, RATE, folder)
    readers.requires_grad_(False).eval()
    with torch.no_grad():
        told, _ = heads(policy, prompts)
    return ((told > 0) == (stated > 0)).all(dim=1).float().mean().item()


def facts(targets: list[Target]) -> Tensor:
    """1 for each fact that a target's prompt states, else 0: (n, facts), the facts in alphabetical order."""
    scenes = [scene(target) for target in targets]
    known = sorted(set().union(*scenes))
    return torch.tensor([[float(fact in stated) for fact in known] for stated in scenes])
