"""The walls of the house: no method is named in the runner, and the tables need no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import baselines
import bench
from bench.experiments import ROWS, TABLE1, TABLE2

SOURCES = sorted(Path(bench.__file__).parent.rglob("*.py"))


# What would tell one method from another: a name from the tables, or an attribute that holds one.
NAMES = {*baselines.RECIPES, *baselines.ABLATION, *(row.method for row in ROWS.values()), *ROWS}
TELLING = ("row.name", "row.method", "row.setting", "row.recipe", "recipe.name")


def mentions_a_method(test: ast.expr) -> bool:
    comparisons = [node for node in ast.walk(test) if isinstance(node, ast.Compare)]
    parts = [part for comparison in comparisons for part in ast.walk(comparison)]
    texts = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    attributes = [ast.unparse(part) for part in parts if isinstance(part, ast.Attribute)]
    return bool(texts & NAMES) or any(attribute.endswith(TELLING) for attribute in attributes)


def test_nothing_in_bench_branches_on_the_method() -> None:
    branches = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.If | ast.IfExp | ast.While) and mentions_a_method(node.test)
    ]
    assert not branches


def test_a_branch_on_the_method_would_be_seen() -> None:
    for code in ("x.recipe.name == 'y'", "row.method != other", "name == 'temp_flow_grpo'", "'FlowGRPO' in words"):
        assert mentions_a_method(ast.parse(code, mode="eval").body)
    assert not mentions_a_method(ast.parse("row.recipe and row.backbone == 'sd3'", mode="eval").body)


def test_every_row_names_a_recipe_that_exists() -> None:
    for row in ROWS.values():
        assert not row.recipe or baselines.find_recipe(row.recipe)


def test_table_2_begins_and_ends_with_rows_of_table_1() -> None:
    assert list(TABLE2) == list(baselines.ABLATION)
    shared = [name for name, row in TABLE2.items() if row.name in TABLE1]
    assert shared == ["baseline", "grpo_guard"]


def test_tables_and_figures_load_no_torch() -> None:
    code = "import sys, paper_tables.__main__; sys.exit(bool({'torch', 'mlflow', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
