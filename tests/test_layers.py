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


def compared_names(node: ast.AST) -> set[str]:
    return {n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(node) if isinstance(n, ast.Attribute | ast.Name)}


def mentions_a_method(test: ast.expr) -> bool:
    texts = {n.value for n in ast.walk(test) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    methods = {*baselines.RECIPES, *baselines.ABLATION, *(row.method for row in ROWS.values())}
    return bool(texts & methods) or "name" in compared_names(test) & {"name"} and "recipe" in compared_names(test)


def test_nothing_in_bench_branches_on_the_method() -> None:
    branches = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.If | ast.IfExp | ast.While) and mentions_a_method(node.test)
    ]
    assert not branches


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
