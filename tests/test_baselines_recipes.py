"""The table of choices: what each recipe says, in what recipes differ, and what the command prints."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import baselines
from baselines import ABLATION, RECIPES, Recipe, find_recipe, guard
from baselines.__main__ import main
from baselines.terms import beta_over_dt

ROOT = Path(baselines.__file__).parents[1]
FLOW, DANCE, TEMP = (RECIPES[name] for name in ("flow_grpo", "dance_grpo", "temp_flow_grpo"))


def differing(first: Recipe, second: Recipe) -> set[str]:
    """Columns, a plan's included, in which two recipes differ."""
    one, other = first.columns(), second.columns()
    return {key for key in one if one[key] != other[key]}


def test_the_names_are_the_published_ones() -> None:
    assert list(RECIPES) == [
        "flow_grpo", "dance_grpo", "temp_flow_grpo", "guard_flow_grpo", "guard_dance_grpo",
        "guard_dance_grpo_beta", "guard_flow_grpo_released",
    ]  # fmt: skip
    assert list(ABLATION) == [
        "baseline", "temp_reweight", "guard_reweight", "mean_revised", "ratio_norm", "grpo_guard",
    ]  # fmt: skip
    assert all(row.name == name for name, row in (RECIPES | ABLATION).items())


@pytest.mark.parametrize("base", [FLOW, DANCE, TEMP], ids=lambda row: row.name)
def test_guard_changes_ratio_weight_and_clip_and_nothing_else(base: Recipe) -> None:
    guarded = guard(base)
    assert differing(base, guarded) == {"name", "log_ratio", "step_weight", "clip"}
    assert guarded.plan is base.plan and guarded.sde is base.sde and guarded.advantage is base.advantage


def test_the_five_methods_differ_in_columns_only() -> None:
    plan = {"plan.initial", "plan.final"}
    assert all(type(row) is Recipe for row in (RECIPES | ABLATION).values())
    assert differing(FLOW, TEMP) == {"name", "plan", "plan.branches", "step_weight"} | plan
    assert differing(FLOW, DANCE) == {"name", "sde", "noise_level", "advantage", "plan.trained_fraction"} | plan
    assert differing(RECIPES["guard_flow_grpo"], RECIPES["guard_dance_grpo"]) == differing(FLOW, DANCE)


def test_variants_of_guard_differ_from_it_in_one_column() -> None:
    assert differing(RECIPES["guard_dance_grpo"], RECIPES["guard_dance_grpo_beta"]) == {"name", "step_weight"}
    released = RECIPES["guard_flow_grpo_released"]
    assert differing(RECIPES["guard_flow_grpo"], released) == {"name", "log_ratio", "batch"}
    # Its log ratio couples the samples of a batch, and no other recipe's does.
    assert [row.name for row in (RECIPES | ABLATION).values() if row.batch > 1] == [released.name]
    assert guard(DANCE, weight=beta_over_dt).step_weight is RECIPES["guard_dance_grpo_beta"].step_weight


def test_ablation_rows_are_flow_grpo_but_for_ratio_weight_and_clip() -> None:
    assert differing(FLOW, ABLATION["baseline"]) == {"name"}
    assert differing(RECIPES["guard_flow_grpo"], ABLATION["grpo_guard"]) == {"name"}
    for name, row in ABLATION.items():
        assert differing(FLOW, row) <= {"name", "log_ratio", "step_weight", "clip"}
        assert row.clip == (2e-6 if name in ("ratio_norm", "grpo_guard") else 1e-4)


def test_published_numbers_are_in_the_table() -> None:
    # Sources beside the constants; repeated here so that a slip of a digit shows.
    numbers = {name: (row.noise_level, row.clip, row.plan.branches) for name, row in RECIPES.items()}
    assert numbers["flow_grpo"] == (0.7, 1e-4, 1)
    assert numbers["dance_grpo"] == (0.3, 1e-4, 1) and numbers["temp_flow_grpo"] == (0.7, 1e-4, 6)
    assert numbers["guard_flow_grpo"] == (0.7, 2e-6, 1) and numbers["guard_dance_grpo"] == (0.3, 2e-6, 1)
    assert {row.advantage_clip for row in RECIPES.values()} == {5.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": 0.0}, "clip in"),
        ({"noise_level": -0.7}, "noise_level"),
        ({"advantage_clip": float("inf")}, "advantage_clip"),
        ({"sde": lambda time, times, level: torch.zeros_like(time)}, "positive finite sigma"),
        ({"step_weight": lambda step: step.mean_std}, "number per row"),
        ({"log_ratio": lambda new, old, x: new.log_prob(x)}, "where the policies agree"),
        ({"advantage": lambda rewards: rewards}, "centre each group"),
    ],
)
def test_a_row_that_is_wrong_cannot_be_built(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FLOW, **wrong)  # type: ignore[arg-type]


def test_an_unknown_name_gets_near_names() -> None:
    assert find_recipe("flow_grpo") is FLOW and find_recipe("mean_revised") is ABLATION["mean_revised"]
    with pytest.raises(KeyError, match=r"no recipe is called 'gaurd_flow_grpo'.*guard_flow_grpo"):
        find_recipe("gaurd_flow_grpo")
    with pytest.raises(KeyError, match=r"flow_grpo, dance_grpo.*grpo_guard"):
        find_recipe("xyz")


def test_the_command_shows_all_recipes_on_one_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["baselines"])
    monkeypatch.delitem(sys.modules, "baselines.__main__")  # run once more, as `python -m baselines` runs it
    runpy.run_module("baselines", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert all(any(line.startswith(name) for line in lines) for name in [*RECIPES, *ABLATION])
    [change] = [line for line in lines if line.startswith("guard_flow_grpo ") and "=" in line]
    assert change.split(None, 1)[1] == "log_ratio = ratio_norm, step_weight = inverse_dt, clip = 2e-06"


def test_the_command_gives_the_same_as_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["baselines", "--json"])
    main()
    found = json.loads(capsys.readouterr().out)
    assert found == {name: row.columns() for name, row in (RECIPES | ABLATION).items()}


def test_baselines_imports_torch_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "torch", "baselines"}
    for file in (ROOT / "baselines").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, file


def test_bench_asks_nowhere_for_the_name_of_a_method() -> None:
    # What a method does differently is a column of its recipe, so no condition may compare with its name.
    names = {*RECIPES, *ABLATION}
    for file in (ROOT / "bench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = list(ast.walk(node)) if isinstance(node, (ast.Compare, ast.MatchValue)) else []
            assert not names & {part.value for part in parts if isinstance(part, ast.Constant)}, file


def test_flux_noise_level_is_a_replaced_number() -> None:
    x = torch.ones(1, 2)
    times = torch.tensor([1.0, 0.5, 0.0])

    def sigma(recipe: Recipe) -> Tensor:
        return recipe.step(x, x, times, 1).sigma

    assert float(sigma(replace(FLOW, noise_level=0.9)) / sigma(FLOW)) == pytest.approx(9 / 7)
