"""The record survives a kill, names damage, logs each update once and reaches MLflow once."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from bench import ledger
from bench.record import METRIC_FILES, LedgerError, Record, read_lines

INFO = {
    "run_id": "tiny/sd3_flow_text/seed0",
    "row": "sd3_flow_text",
    "method": "FlowGRPO",
    "backbone": "sd3",
    "task": "text",
    "seed": 0,
    "scale": "tiny",
    "suite": "tiny",
    "protocol": "paired",
    "weights": "random",
    "recipe": {"name": "flow_grpo", "clip": 1e-4},
}


def made(root: Path, updates: int = 4) -> Path:
    folder = root / "sd3_flow_text/seed0"
    record = Record(folder)
    record.begin(INFO)
    for update in range(1, updates + 1):
        at = {"update": update, "epoch": (update - 1) // 2}
        record.append("metrics", at | {"proxy/reward": update / 10, "grad/norm": math.inf})
        record.append(
            "diagnostics",
            at
            | {
                "inner": (update - 1) % 2,
                "steps": [0, 1],
                "log_ratio_mean": [0.0, -0.5],
                "log_ratio_std": [0.1, math.nan],
                "grad_norm": [1.0, 2.0],
            },
        )
    record.status("finished", updates, updates)
    return folder


def test_a_torn_last_line_is_dropped_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = made(tmp_path) / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert [row["update"] for row in read_lines(path)] == [1, 2, 3]
    path.write_bytes(whole.replace(b'"update": 2}', b'"update": 2'))
    with pytest.raises(LedgerError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_lines(path)


def test_cutting_keeps_what_came_before_byte_for_byte(tmp_path: Path) -> None:
    folder = made(tmp_path)
    before = {name: (folder / name).read_bytes().splitlines(keepends=True) for name in METRIC_FILES}
    Record(folder).cut({name: len(b"".join(lines[:2])) for name, lines in before.items()})
    assert (folder / "metrics.jsonl").read_bytes() == b"".join(before["metrics.jsonl"][:2])
    assert {row["update"] for row in read_lines(folder / "diagnostics.jsonl")} == {1, 2}


def test_numbers_come_back_exactly_and_what_is_not_finite_as_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.append("metrics", {"update": 1, "x": 0.1 + 0.2, "y": math.nan})
    assert read_lines(tmp_path / "metrics.jsonl") == [{"update": 1, "x": 0.1 + 0.2, "y": None}]


def test_diagnostics_are_spread_over_the_steps(tmp_path: Path) -> None:
    frame = ledger.read(made(tmp_path)).diagnostics()
    assert len(frame) == 8
    second = frame[(frame["update"] == 2) & (frame["step"] == 1)].iloc[0]
    assert (second["log_ratio_mean"], second["grad_norm"], second["inner"]) == (-0.5, 2.0, 1)


def test_a_rank_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "run", writes=False)
    record.begin(INFO)
    record.append("metrics", {"update": 1})
    record.status("running", 1, 2)
    assert list((tmp_path / "run").iterdir()) == []


def test_no_folder_of_runs_and_a_broken_record_are_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="train some first: make table1"):
        ledger.load(tmp_path / "nothing")
    (made(tmp_path) / "run.json").write_text("{")
    with pytest.raises(LedgerError, match=r"sd3_flow_text/seed0 cannot be read.*FORCE=1"):
        ledger.load(tmp_path)


def test_only_run_folders_are_runs_and_not_the_mirrors_artifacts(tmp_path: Path) -> None:
    folder = made(tmp_path)
    artifact = tmp_path / "mlartifacts/0123/artifacts"
    artifact.mkdir(parents=True)
    (artifact / "run.json").write_bytes((folder / "run.json").read_bytes())
    assert [run.path for run in ledger.load(tmp_path)] == [folder]


def test_the_mirror_holds_every_point_once_with_tags_and_sections(tmp_path: Path, empty_store: Path) -> None:
    from mlflow.tracking import MlflowClient

    shutil.copy(empty_store, tmp_path)

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = made(tmp_path, updates=2)
    first = ledger.mirror(ledger.read(folder), uri)
    made(tmp_path / "more", updates=4)
    for name in ("metrics.jsonl", "diagnostics.jsonl"):
        (folder / name).write_bytes((tmp_path / "more/sd3_flow_text/seed0" / name).read_bytes())
    assert ledger.mirror(ledger.read(folder), uri) == first
    client = MlflowClient(uri)
    history = client.get_metric_history(first, "proxy/reward")
    assert [(m.step, m.value) for m in history] == [(u, u / 10) for u in (1, 2, 3, 4)]
    run = client.get_run(first)
    assert set(run.data.metrics) == {
        "proxy/reward",
        *(f"{section}/{half}/{step:02d}" for half in ("on_policy", "off_policy") for section, step in SHOWN),
    }
    assert run.data.tags["row"] == "sd3_flow_text"
    assert (run.data.tags["protocol"], run.data.tags["weights"]) == ("paired", "random")
    assert run.data.params["clip"] == "0.0001"
    assert run.info.status == "FINISHED"
    assert json.loads((folder / "mlflow.json").read_text())["lines"]["metrics.jsonl"] == 4


def test_the_mirror_misses_nothing_of_an_update_that_was_interrupted_between_its_lines(
    tmp_path: Path, empty_store: Path
) -> None:
    from mlflow.tracking import MlflowClient

    shutil.copy(empty_store, tmp_path)

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = made(tmp_path, updates=1)
    mirrored = ledger.mirror(ledger.read(folder), uri)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 0, "gold/correctness": 0.5, "update": 1}\n')
    ledger.mirror(ledger.read(folder), uri)
    assert [m.value for m in MlflowClient(uri).get_metric_history(mirrored, "gold/correctness")] == [0.5]
    assert len(MlflowClient(uri).get_metric_history(mirrored, "proxy/reward")) == 1


# Where a standard deviation is not a number nothing is shown: step 1 has none.
SHOWN = [("ratio/mean", 0), ("ratio/mean", 1), ("ratio/std", 0), ("grad/step", 0), ("grad/step", 1)]
