"""One thread for every test process: results and timings then do not depend on the machine's cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported after the variable is set, because torch reads it at import.
import torch

torch.set_num_threads(1)

from gold_metrics.torchvision_repair import repair  # noqa: E402

# Before any test imports diffusers or transformers: with a CPU build of torch they fail beside a CUDA torchvision.
repair()

# The files of more than ten seconds. Workers take whole files in this order, and so end together.
LONGEST = (
    "test_ledger_browser", "test_full_size", "test_runs_damage", "test_faults", "test_ranks_equal", "test_runs_repeat",
    "test_runs_ranks", "test_space", "test_slurm_scripts", "test_update", "test_evaluation", "test_pipelines_equal",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else as it was."""
    turns = {name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.stem, len(turns)))


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves scores, notes of weights and runs where the user keeps theirs."""
    monkeypatch.setenv("GOLD_METRICS_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mlflow.db` without runs, to be copied: its making costs seconds."""
    from bench.ledger.store import Store

    folder = tmp_path_factory.mktemp("store")
    Store(f"sqlite:///{folder}/mlflow.db", folder)
    return folder / "mlflow.db"
