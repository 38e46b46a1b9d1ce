"""The study of many seeds: what it trains, what it leaves, and how a cell is checked."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bench_runs import overrides
from fake_ledger import write_run

from bench import cells, ledger, repeats, study, suite, train
from bench.experiments import EXTRA, TABLE1, TABLE2
from bench.ledger import flatten
from bench.suite import Job
from paper_tables import claims, outputs, statistics
from paper_tables.claims.beyond import VARIED
from paper_tables.frame import read

RESULTS = Path(study.__file__).parents[1] / study.RESULTS
BY_HAND = {"README.md", study.study_page.PAGE, study.study_page.TRIED}
ROWS = "sd3_flow_text,sd3_base"
SHORT = "updates=2"


def train_here(jobs: list[Job], at_once: int, ended: Callable[[Job], None], until: float) -> None:
    """`suite.run` without processes."""
    for job in jobs:
        train.run(job.settings)
        ended(job)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of a row and its base model, and what it printed."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "run", train_here)
        assert call(folder) == 0
    return folder


def call(folder: Path, *more: str) -> int:
    settings = overrides(folder, SHORT, *more)
    return study.main([*settings, "--rows", ROWS, "--seeds", "0", "--jobs", "2", "--out", str(folder / "out")])


def test_the_study_has_every_row_at_several_times_the_default_budget() -> None:
    assert {*TABLE1, *(row.name for row in TABLE2.values()), *EXTRA} == set(study.ROWS) and len(study.SEEDS) >= 3
    for task in study.UPDATES:
        row = next(row.name for row in TABLE1.values() if row.task == task)
        ours, default = Job(study.configure(row, 0)), Job(suite.configure(row, []))
        assert ours.planned == study.UPDATES[task] > 2 * default.planned
        assert ours.planned % study.EVALUATE_EVERY == 0


def test_other_settings_differ_from_the_study_in_one_setting_and_in_where_they_are() -> None:
    for name in study.VARIED:
        for row in study.VARIED_ROWS:
            here, there = (flatten(asdict(study.configure(row, 0, other=other))) for other in ("", name))
            changed = {key for key in here if here[key] != there[key]} - {"runs", "suite", "tracking"}
            assert len(changed) == 1 and changed < set(VARIED)  # what claim C18 tells studies apart by
            assert len({here["suite"], there["suite"]}) == len({here["runs"], there["runs"]}) == 2


def test_finished_runs_become_cells_and_keep_all_but_their_checkpoints(made: Path) -> None:
    kept = made / "out" / "cells"
    assert {run.info["row"] for run in ledger.load(kept)} == set(ROWS.split(","))
    left = made / "runs" / "sd3_flow_text" / "seed0"
    assert (left / "lora").is_dir() and not (left / "checkpoints").exists()
    assert len(ledger.read(kept / "sd3_flow_text" / "seed0").pictures()) == 4 * 2  # prompts, evaluations


def test_what_has_a_cell_is_not_trained_again_also_where_its_run_is_gone(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "run", lambda *arguments: pytest.fail("trained"))
    shutil.copytree(made / "out", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert call(tmp_path) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_cell_of_other_settings_is_refused_in_one_line_and_repeated_with_force(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(suite, "run", lambda jobs, *rest: asked.extend(job.name for job in jobs))
    assert call(made, "clip_scale=5") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "clip_scale was 11.3, now 5" in shown and "FORCE=1" in shown
    assert asked == []
    assert call(made, "clip_scale=5", "force=1") == 1  # nothing was trained, so both are missing
    assert asked == ["sd3_base seed 0", "sd3_flow_text seed 0"]
    assert "missing: sd3_base seed 0" in capsys.readouterr().out


def test_a_cell_trained_anew_is_equal_to_the_bit(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repeats, "BESIDE", tmp_path / "check")
    settings = overrides(made, SHORT, "--check", "sd3_flow_text", "0", "--out", str(made / "out"))
    assert study.main(settings) == 0
    assert "sd3_flow_text seed 0: equal to the bit" in capsys.readouterr().out


def scored(value: float, bits: float = 0.0) -> SimpleNamespace:
    """What a check reads of a run: twenty prompts about `value`, shifted by `bits`."""
    spread = np.linspace(-0.1, 0.1, 20)
    scores = pd.DataFrame(
        {"update": 4, "scorer": "text", "prompt_id": [f"p{i}" for i in range(20)], "score": value + spread + bits}
    )
    frame = pd.DataFrame({"update": [4], "proxy/text": [value + bits]})
    info = {"row": "sd3_flow_text", "seed": 0, "versions": {"torch": "1.0"}}
    return SimpleNamespace(scores=lambda: scores, metrics=lambda: frame, diagnostics=lambda: frame, info=info)


@pytest.mark.parametrize(
    ("bits", "code", "words"), [(0, 0, "equal to the bit"), (1e-9, 0, "all within"), (0.1, 1, "outside")]
)
def test_a_check_tells_equal_bits_from_equal_means_from_other_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bits: float, code: int, words: str
) -> None:
    monkeypatch.setattr(repeats, "_cpu", lambda run: "another CPU")
    assert repeats._tell(scored(0.5), scored(0.5, bits)) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("cpu", ["ours", "another"])
def test_on_the_cells_type_of_cpu_a_check_passes_on_equal_bits_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cpu: str
) -> None:
    monkeypatch.setattr(cells, "cpu", lambda: "ours")
    monkeypatch.setattr(repeats, "_cpu", lambda run: cpu)
    assert repeats._tell(scored(0.5), scored(0.5)) == 0
    assert repeats._tell(scored(0.5), scored(0.5, 1e-9)) == int(cpu == "ours")
    assert ("equal bits are wanted; other packages than torch 1.0" in capsys.readouterr().out) == (cpu == "ours")


def test_the_interval_of_a_check_is_that_of_a_mean_over_prompts() -> None:
    means = np.random.default_rng(1).normal(size=400)
    low, high = repeats.interval(means)
    half = 1.96 * means.std() / 20
    assert low == pytest.approx(means.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(means.mean() + half, abs=0.1 * half)
    assert repeats.interval(np.full(5, 0.3)) == (0.3, 0.3)


def test_the_page_tells_with_what_the_cells_were_made_and_what_was_tried(made: Path) -> None:
    out = made / "out"
    (out / study.study_page.TRIED).write_text("Rates 1e-3 and 2e-3 on seed 100.\n")
    page = study.study_page.write(out / "cells", out).read_text()
    (out / study.study_page.TRIED).unlink()
    cell = ledger.read(out / "cells" / "sd3_flow_text" / "seed0")
    for words in (f"torch {cell.info['versions']['torch']}", cells.cpu(), "Rates 1e-3", "| tiny SD3 | FlowGRPO |"):
        assert words in page


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ((0,), "2 cells: 2 rows with seed 0. **One seed says nothing of another training run.**"),
        ((0, 1), "4 cells: 2 rows with seeds 0, 1."),
        ((0, 1, 2), "6 cells: 2 rows with seeds 0, 1, 2."),
    ],
)
def test_the_page_is_right_for_one_two_and_three_seeds(tmp_path: Path, seeds: tuple[int, ...], words: str) -> None:
    kept = tmp_path / "cells"
    for seed in seeds:
        for row in ("sd3_base", "sd3_flow_text"):
            made = {"versions": {"torch": "2.0" if seed else "1.0"}, "git_commit": f"c0ffee{min(seed, 1)}"}
            cells.pack(ledger.read(write_run(tmp_path / "runs", row, seed, **made)), kept)
    page = study.study_page.write(kept, tmp_path).read_text()
    assert words in page
    cpu, later = cells.cpu(), ", ".join(map(str, seeds[1:]))
    assert f"| 2 | 0 | c0ffee0 | {cpu} | torch 1.0 |" in page
    assert (f"| {2 * len(seeds) - 2} | {later} | c0ffee1 | {cpu} | torch 2.0 |" in page) == (len(seeds) > 1)
    assert "| sd3_base | tiny SD3 | none: the base model | — |" in page and "SD3.5-M" not in page
    shutil.rmtree(kept / "sd3_flow_text" / f"seed{seeds[-1]}")
    lacking = study.study_page.write(kept, tmp_path).read_text()
    assert ("lacking: sd3_flow_text seed" in lacking) == (len(seeds) > 1)


class FakeJob:
    """A job that ends as soon as it begins."""

    planned = done = 1
    failed, process, folder = False, None, Path("nowhere")

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, context: object) -> None:
        self.process = SimpleNamespace(exitcode=0)


def test_no_run_is_begun_after_the_hours_and_each_that_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "POLL", 0.0)
    ended: list[str] = []
    jobs = [FakeJob(name) for name in "abc"]
    suite.run(jobs, 2, lambda job: ended.append(job.name))
    assert ended == ["a", "b", "c"]
    suite.run(jobs, 2, lambda job: ended.append("late"), until=time.monotonic())
    assert "late" not in ended


def texts(folder: Path) -> dict[str, str]:
    """The text files that are made of the cells."""
    kinds = {".md", ".csv", ".tex", ".json"}
    return {
        path.name: path.read_text() for path in folder.iterdir() if path.suffix in kinds and path.name not in BY_HAND
    }


@pytest.mark.skipif(not (RESULTS / "cells").is_dir(), reason="no cell of the study is committed")
def test_what_is_committed_is_made_again_from_its_cells_byte_for_byte(tmp_path: Path, undrawn: None) -> None:
    found = read(RESULTS / "cells")
    for write in (outputs.write_all, statistics.write):
        write(found, tmp_path)
    claims.write(found, tmp_path, [read(folder) for folder in ledger.varied(RESULTS / "cells").values()])
    assert texts(tmp_path) == texts(RESULTS)
    (tmp_path / study.study_page.TRIED).write_text((RESULTS / study.study_page.TRIED).read_text())
    page = study.study_page.write(RESULTS / "cells", tmp_path)
    assert page.read_text() == (RESULTS / study.study_page.PAGE).read_text()


@pytest.mark.skipif(not (RESULTS / "cells").is_dir(), reason="no cell of the study is committed")
@pytest.mark.parametrize("other", ["", *study.VARIED])
def test_every_committed_cell_is_whole_small_and_of_the_settings_of_its_study(other: str) -> None:
    kept = RESULTS / "settings" / other / "cells" if other else RESULTS / "cells"
    for run in ledger.load(kept):
        assert run.finished and cells.seals.damaged(run.path) == {}
        assert sum(path.stat().st_size for path in run.path.iterdir()) < 500_000
        assert run.info["updates"] == study.UPDATES.get(run.info["task"], 0)
    # That the others differ from these in nothing but their recipes is what tables are refused without.
    for row in ("sd3_base", "sd3_guard_text"):
        run = ledger.read(kept / row / f"seed{study.PICTURED}")
        repeats.check_asked(run, study.configure(row, study.PICTURED, other=other))


def test_a_cell_says_what_the_images_of_its_run_hashed_to(made: Path) -> None:
    known = json.loads((made / "out" / "cells" / "sd3_base" / "seed0" / cells.CELL).read_text())
    assert set(known) == {"sealed", "cpu"} and any(name.startswith("images/") for name in known["sealed"])
