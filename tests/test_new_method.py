"""The README's example of a method of one's own: one file of a dozen lines, and it is trained, tabled and reported."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bench_runs import settings

import baselines
from baselines.terms import inverse_dt, uniform
from bench import ledger, train
from bench.experiments import ROWS, RowError, find_row
from paper_tables import drawing, statistics
from paper_tables.__main__ import main as make_tables
from paper_tables.frame import read
from paper_tables.report.points import points

# As the README shows it.
METHOD = '''\
"""GRPO-Guard with half of its exponent: steps weighed by 1/sqrt(dt). From no paper, and not tuned."""

from dataclasses import replace

from torch import Tensor

from baselines.flow_grpo import FLOW_GRPO
from baselines.grpo_guard import guard
from baselines.sde import Step


def inverse_root_dt(step: Step) -> Tensor:
    """1 / sqrt(dt), (B,): between the equal weights of Table 2's RatioNorm and GRPO-Guard's 1 / dt."""
    return step.dt**-0.5


ROOT_GUARD = replace(guard(FLOW_GRPO, weight=inverse_root_dt), name="root_guard")
'''
ROW = "sd3_root_guard_text"


@pytest.fixture(scope="module")
def root_guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The file in the package `baselines`, as if it had been written into its folder."""
    package = tmp_path_factory.mktemp("package")
    (package / "root_guard.py").write_text(METHOD)
    baselines.__path__.append(str(package))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "RECIPES", baselines.RECIPES | baselines.stated())
        yield
    baselines.__path__.remove(str(package))


@pytest.fixture(scope="module")
def runs(root_guard: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two updates of the method, and of its base model."""
    folder = tmp_path_factory.mktemp("own")
    for row in ("sd3_base", ROW):
        train.run(settings(row, folder, "updates=2", "evaluation.images_per_prompt=2"))
    return folder / "runs"


def test_the_file_has_a_dozen_lines_and_the_readme_shows_it_and_its_row() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert sum(bool(line) for line in METHOD.splitlines()) <= 12
    assert f"```python\n{METHOD}```" in readme and f"row={ROW}" in readme


def test_a_method_of_one_file_is_trained_as_it_says(runs: Path) -> None:
    run = ledger.read(runs / ROW / "seed0")
    assert run.finished and (run.info["recipe"]["log_ratio"], run.info["task"]) == ("ratio_norm", "text")
    assert run.info["recipe"]["step_weight"] == "inverse_root_dt"
    assert run.info["recipe"]["clip"] == pytest.approx(2e-6 * 11.3)  # the scale's clips are 11.3 times a paper's


def test_the_tables_the_claims_and_the_statistics_have_a_method_of_ones_own(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "save", lambda figure, path: [])
    for what in ("tables", "statistics", "claims"):
        assert make_tables([what, "--runs", str(runs), "--out", str(tmp_path)]) == 0
    assert "| root_guard, text |" in (tmp_path / "extra.md").read_text()
    for name in ("extra.csv", "statistics.csv", "curves.csv", "claims_clipping.csv"):
        assert any(ROW in cell for line in csv.reader((tmp_path / name).open()) for cell in line), name


def test_the_reports_curves_have_a_method_of_ones_own(runs: Path, tmp_path: Path) -> None:
    study = read(runs)
    statistics.write(study, tmp_path)
    assert ROW in set(points(study, tmp_path / "curves.csv")["row"])


def test_a_row_of_ones_own_is_named_by_backbone_file_and_task(root_guard: None) -> None:
    row = find_row(ROW)
    assert (row.backbone, row.recipe, row.method, row.task) == ("sd3", "root_guard", "root_guard", "text")
    assert row.paper_updates == ROWS["sd3_flow_text"].paper_updates
    assert find_row("flux_root_guard_geneval").backbone == "flux"


@pytest.mark.parametrize("name", ["sd3_root_gard_text", "sd3_root_guard_colour", "sd4_root_guard_text", "root_guard"])
def test_a_name_that_is_no_row_is_refused_with_near_names(root_guard: None, name: str) -> None:
    with pytest.raises(RowError, match="no row is called"):
        find_row(name)


def test_it_is_in_no_table_and_its_weights_are_the_geometric_mean_of_ratio_norms_and_guards(root_guard: None) -> None:
    new = baselines.RECIPES["root_guard"]
    known = [each for each in (baselines.RECIPES | baselines.ABLATION).values() if each is not new]
    assert known and new.step_weight not in {each.step_weight for each in known}
    times = torch.linspace(1, 0, 5) ** 2
    step = new.step(torch.ones(3, 2), torch.zeros(3, 2), times, torch.arange(3))
    assert torch.allclose(new.step_weight(step) ** 2, uniform(step) * inverse_dt(step))


def test_without_its_file_there_is_no_such_row_and_the_papers_recipes_are_theirs() -> None:
    with pytest.raises(RowError, match="no row is called"):
        find_row(ROW.replace("root", "third"))
    stated = baselines.stated()
    assert set(stated) - {"root_guard"} == {"flow_grpo", "dance_grpo", "temp_flow_grpo"}
    assert all(baselines.RECIPES[name] is recipe for name, recipe in stated.items() if name != "root_guard")
