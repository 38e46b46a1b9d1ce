"""One thread for every test process: results and timings then do not depend on the machine's cores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files whose runs are forked from a server, which takes nine seconds to import what it hands on. All go to one worker,
# so that there is one server, and never more ranks at once than one file asks for.
FORKING = (
    "test_ranks_equal", "test_faults", "test_runs_ranks", "test_runs_repeat", "test_space", "test_runs_errors",
)  # fmt: skip
# The files of more than ten seconds. Workers take whole files in this order, and so end together.
LONGEST = (
    *FORKING, "test_ledger_browser", "test_report_page", "test_full_size", "test_runs_damage", "test_study",
    "test_rewards_pickscore", "test_embeddings", "test_tables_command", "test_gold_text", "test_slurm_scripts",
    "test_update", "test_evaluation", "test_pipelines_equal", "test_conf",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Prepares torch where tests run: not in the process that only hands them to its workers."""
    if config.getoption("numprocesses", None):
        return
    # Imported after the variable is set, because torch reads it at import.
    import torch

    from gold_metrics.torchvision_repair import repair

    torch.set_num_threads(1)
    # Before any test imports diffusers or transformers: with a CPU build of torch they fail beside a CUDA torchvision.
    repair()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, for which the files of `FORKING` are one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "forking" if Path(nodeid.split("::")[0]).stem in FORKING else super()._split_scope(nodeid)

    return OneServer(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else as it was."""
    turns = {name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.stem, len(turns)))


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that nobody has used yet: a folder of pytest's for each of so many tests costs seconds."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves scores, notes of weights and runs where the user keeps theirs."""
    monkeypatch.setenv("GOLD_METRICS_HOME", str(next(homes)))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mlflow.db` without runs, to be copied: its making costs seconds."""
    from bench.ledger.store import Store

    folder = tmp_path_factory.mktemp("store")
    Store(f"sqlite:///{folder}/mlflow.db", folder)
    return folder / "mlflow.db"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are neither made nor saved, for tests of what is written beside them."""
    from paper_tables import drawing, outputs

    for name in outputs.FIGURES:
        monkeypatch.setattr(drawing, name, lambda *given: None)
    monkeypatch.setattr(drawing, "save", lambda figure, path: [])
