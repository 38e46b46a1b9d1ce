"""What `make` would run: which runs a page is of, where it is put, and what is refused at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the Makefile looks at, and an installation that is fresh."""
    shutil.copyfile(REPOSITORY / "Makefile", tmp_path / "Makefile")
    for name in ("requirements.lock", "pyproject.toml", ".venv/.fresh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    shutil.copytree(REPOSITORY / "bench" / "conf", tmp_path / "bench" / "conf")
    return tmp_path


def would_run(clone: Path, *words: str) -> tuple[int, list[str]]:
    """Exit status and lines of `make -n WORDS`."""
    # Not as a part of the `make` that may run the tests.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "-n", *words], cwd=clone, env=alone, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def report_of(clone: Path, *words: str) -> list[str]:
    """The folders of runs and of the page."""
    code, (*_, line) = would_run(clone, "report", *words)
    assert code == 0 and "paper_tables report" in line
    return line.split()[-3::2]


def test_the_committed_studys_page_has_a_folder_that_no_page_of_ones_own_runs_takes(clone: Path) -> None:
    assert report_of(clone) == ["results/tiny/cells", "out/study"]
    assert report_of(clone, "RUNS=./results/tiny/cells/") == ["./results/tiny/cells/", "out/study"]
    (clone / "runs" / "tiny").mkdir(parents=True)
    assert report_of(clone) == ["runs/tiny", "out/tiny"]
    assert report_of(clone, "RUNS=results/tiny/cells") == ["results/tiny/cells", "out/study"]
    assert report_of(clone, "RUNS=elsewhere", "OUT=here") == ["elsewhere", "here"]


@pytest.mark.parametrize("target", ["table1", "figures", "report"])
def test_a_misspelt_scale_or_protocol_is_refused_with_its_names_also_beside_runs(clone: Path, target: str) -> None:
    for word, wanted in {"SCALE=tinyy": "paper tiny", "PROTOCOL=pair": "paired released"}.items():
        code, (*_, line) = would_run(clone, target, word, "RUNS=runs/tiny")
        assert code == 2 and f"there is no {word}: wanted one of {wanted}" in line


@pytest.mark.parametrize("target", ["table1", "ablation", "extra"])
def test_what_is_trained_is_what_is_tabulated(clone: Path, target: str) -> None:
    for given, runs in {"RUNS=elsewhere": "elsewhere", "PROTOCOL=released": "runs/tiny_released"}.items():
        code, (trained, tabulated) = would_run(clone, target, given)
        assert code == 0 and f" runs={runs}" in trained and f"--runs {runs} " in tabulated
