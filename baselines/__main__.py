"""All recipes side by side, and what GRPO-Guard changed; with `--json` as data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

from baselines import ABLATION, RECIPES, Recipe, guard

PLANS = ("flow_grpo", "dance_grpo", "temp_flow_grpo")
CHOICES = ("sde", "noise_level", "advantage", "log_ratio", "step_weight", "clip")


def main() -> None:
    """Prints the table, or with `--json` one object from recipe names to their columns."""
    parser = argparse.ArgumentParser(prog="python -m baselines", description=__doc__)
    parser.add_argument("--json", action="store_true", help="RECIPES and ABLATION as one JSON object")
    if parser.parse_args().json:
        print(json.dumps({name: row.columns() for name, row in (RECIPES | ABLATION).items()}, indent=1))
    else:
        print(screen())


def screen() -> str:
    """The text of `python -m baselines`, at most 100 columns wide."""
    plan_columns = [key for key in RECIPES["flow_grpo"].columns() if key.startswith("plan")]
    return "\n".join(
        [
            *table(RECIPES.values(), CHOICES),
            "\nPlans; a guarded recipe samples as its base:",
            *table((RECIPES[name] for name in PLANS), plan_columns),
            "\nGRPO-Guard is a change to a recipe:",
            *(changes(RECIPES[name], guard(RECIPES[name])) for name in ("flow_grpo", "dance_grpo")),
            "\nTable 2 is six rows next to flow_grpo:",
            *(changes(RECIPES["flow_grpo"], row) for row in ABLATION.values()),
        ]
    )


def table(recipes: Iterable[Recipe], keys: Iterable[str]) -> list[str]:
    """Aligned lines, a head and one per recipe."""
    keys = list(keys)
    rows = [["recipe", *keys]]
    rows += [[row.name, *(str(row.columns()[key]) for key in keys)] for row in recipes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def changes(base: Recipe, other: Recipe) -> str:
    """One line: the columns in which `other` differs from `base`."""
    before, after = base.columns(), other.columns()
    changed = [f"{key} = {after[key]}" for key in before if before[key] != after[key]]
    return f"{other.name:<16} " + (", ".join(changed[1:]) or f"as {base.name}")


if __name__ == "__main__":
    main()
