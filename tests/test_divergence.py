"""The KL to the base model: its closed form, the same by Monte Carlo, and who has one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench_runs import PROMPTS, settings
from torch import Tensor

import baselines
from bench import divergence, noise, prompts
from bench.noise import Coordinates
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.session import Session, prepare

TIMES = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])


class Shifted:
    """A velocity field, and the same field moved by a constant: the policy that was trained from it."""

    latent_shape, device = (2, 3, 3), torch.device("cpu")

    def __init__(self, shift: float) -> None:
        self.shift, self.moved = shift, True

    def encode(self, texts: list[str]) -> None: ...

    def velocity(self, latents: Tensor, time: Tensor, conditioning: Any) -> Tensor:
        return latents.sin() + self.shift * self.moved

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        self.moved = False
        yield
        self.moved = True


def closed_form(sigmas: list[float], shift: float, elements: int) -> float:
    """Sum over all transitions but the last of D (beta dt shift)^2 / (2 sigma^2 dt)."""
    total = 0.0
    for index, sigma in enumerate(sigmas):
        time, dt = TIMES[index].item(), (TIMES[index] - TIMES[index + 1]).item()
        beta = 1 + sigma**2 * (1 - time) / (2 * time)
        total += elements * (beta * shift) ** 2 * dt / (2 * sigma**2)
    return total


FLOW = [0.7 * math.sqrt(t / (1 - min(t, 0.8))) for t in (1.0, 0.8, 0.5)]


@pytest.mark.parametrize(("recipe", "sigmas"), [("flow_grpo", FLOW), ("dance_grpo", [0.3] * 3)])
def test_a_constant_shift_of_the_velocity_has_the_kl_of_its_closed_form(recipe: str, sigmas: list[float]) -> None:
    asked = [Prompt("one", "a circle"), Prompt("two", "two squares")]
    found = divergence.kl_to_base(Shifted(0.03), baselines.RECIPES[recipe], asked, 0, TIMES)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx([closed_form(sigmas, 0.03, 18)] * 2, rel=1e-4)


def adapted(folder: Path, size: float) -> Session:
    session = prepare(settings("sd3_flow_text", folder), Ranks())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in session.state.parameters:
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return session


def test_the_kl_is_the_mean_log_ratio_of_path_densities(tmp_path: Path) -> None:
    session, listed = adapted(tmp_path, 0.02), prompts.load(PROMPTS / "evaluation.jsonl")[::2]
    policy, recipe, times = session.policy, session.recipe, session.times()
    assert recipe
    exact = divergence.kl_to_base(policy, recipe, listed, 0, times)
    log_ratio = torch.zeros(len(listed))
    with torch.no_grad():
        conditioning = policy.encode([prompt.text for prompt in listed])
        at = [Coordinates(9, "evaluation", prompt=prompt.id) for prompt in listed]  # other paths of the same law
        latents = torch.stack([noise.normal(each, policy.latent_shape) for each in at])
        for step in range(len(times) - 2):
            time = times[step].expand(len(latents))
            own = recipe.step(latents, policy.velocity(latents, time, conditioning), times, step)
            with policy.reference():
                base = recipe.step(latents, policy.velocity(latents, time, conditioning), times, step)
            latents = own.sample(
                torch.stack([noise.normal(each._replace(step=step + 1), policy.latent_shape) for each in at])
            )
            log_ratio += (own.log_prob(latents) - base.log_prob(latents)) * latents[0].numel()
    difference = log_ratio.double() - exact
    assert exact.mean() > 0.1
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(listed))


def test_an_untrained_policy_is_at_kl_zero_and_a_trained_one_is_not(tmp_path: Path) -> None:
    fresh = prepare(settings("sd3_flow_text", tmp_path), Ranks())
    listed = prompts.load(PROMPTS / "evaluation.jsonl")[:3]
    assert fresh.recipe
    assert divergence.kl_to_base(fresh.policy, fresh.recipe, listed, 0, fresh.times()).tolist() == [0.0] * 3
    assert divergence.measure(fresh) == {"kl/base": 0.0, "kl/base_n": 4, "kl/base_std": 0.0}
    session = adapted(tmp_path, 0.02)
    session.state.ema.average = [parameter.detach().clone() for parameter in session.state.parameters]
    session.state.update = 1
    assert divergence.measure(session)["kl/base"] > 0


def test_who_has_no_base_model_beside_it_has_no_kl(tmp_path: Path) -> None:
    assert divergence.measure(prepare(settings("sd3_base", tmp_path), Ranks())) == {}
    full = SimpleNamespace(
        recipe=baselines.RECIPES["flow_grpo"],
        policy=None,
        row=SimpleNamespace(backbone="flux"),
        config=SimpleNamespace(backbones={"flux": SimpleNamespace(train="full")}),
    )
    assert divergence.measure(full) == {}  # type: ignore[arg-type]


def test_the_prompts_of_the_kl_are_spread_over_the_file() -> None:
    listed = prompts.load(PROMPTS / "evaluation.jsonl")
    chosen = divergence.spread(listed, 48)
    assert len(chosen) == len({p.id for p in chosen}) == 48
    assert {p.target["category"] for p in chosen if p.target} == {p.target["category"] for p in listed if p.target}
    assert divergence.spread(listed[:5], 48) == listed[:5]
