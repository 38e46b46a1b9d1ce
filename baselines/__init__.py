"""FlowGRPO, DanceGRPO, TempFlowGRPO and GRPO-Guard as rows of one table of choices. Imports torch only."""

from __future__ import annotations

import difflib
import pkgutil
from importlib import import_module

from baselines.dance_grpo import DANCE_GRPO
from baselines.flow_grpo import FLOW_GRPO
from baselines.grpo_guard import (
    ABLATION,
    GUARD_DANCE_GRPO,
    GUARD_DANCE_GRPO_BETA,
    GUARD_FLOW_GRPO,
    GUARD_FLOW_GRPO_RELEASED,
    guard,
)
from baselines.recipe import LossResult, Recipe, loss
from baselines.sde import Step
from baselines.temp_flow_grpo import TEMP_FLOW_GRPO

__all__ = ["ABLATION", "RECIPES", "LossResult", "Recipe", "Step", "find_recipe", "guard", "loss"]


def stated() -> dict[str, Recipe]:
    """The recipes that modules of this package state under their own names: NAME.py a Recipe called NAME."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    held = {name: vars(import_module(f"{__name__}.{name}")).values() for name in names}
    recipes = {name: [each for each in values if isinstance(each, Recipe)] for name, values in held.items()}
    return {name: each for name, found in recipes.items() for each in found if each.name == name}


# The paper's methods in its order, then whatever else has a file here.
RECIPES: dict[str, Recipe] = {
    row.name: row
    for row in (
        FLOW_GRPO,
        DANCE_GRPO,
        TEMP_FLOW_GRPO,
        GUARD_FLOW_GRPO,
        GUARD_DANCE_GRPO,
        GUARD_DANCE_GRPO_BETA,
        GUARD_FLOW_GRPO_RELEASED,
    )
}
RECIPES |= {name: recipe for name, recipe in stated().items() if name not in RECIPES}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, of RECIPES or of ABLATION.

    Raises:
        KeyError: no such recipe; the message lists near names, or all of them.
    """
    known = RECIPES | ABLATION
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3) or list(known)
    raise KeyError(f"no recipe is called {name!r}; did you mean one of: {', '.join(near)}?")
