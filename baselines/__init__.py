"""FlowGRPO, DanceGRPO, TempFlowGRPO and GRPO-Guard as rows of one table of choices. Imports torch only."""

from __future__ import annotations

import difflib

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
