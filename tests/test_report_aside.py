"""What is done once, and what another process does meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Executor
from pathlib import Path

import pytest
import vl_convert
from fake_ledger import write_study

from paper_tables import aside, drawing
from paper_tables.__main__ import main
from paper_tables.frame import curves, read
from paper_tables.report import charts


def test_curves_of_a_study_are_made_once_and_those_of_one_read_anew_again(tmp_path: Path) -> None:
    write_study(tmp_path, ("sd3_base",))
    one, other = read(tmp_path), read(tmp_path)
    assert curves(one) is curves(one)
    assert curves(one) is not curves(other) and curves(one).equals(curves(other))


def test_work_is_done_in_another_process_and_what_it_raises_is_raised_here() -> None:
    for pool, elsewhere in ((aside.here, False), (aside.aside, aside.cores() > 1)):
        with pool("json") as beside:
            assert (beside.submit(os.getpid).result() != os.getpid()) == elsewhere
            with pytest.raises(FileNotFoundError, match="absent"):
                beside.submit(os.listdir, "/absent").result()


def test_what_waits_for_the_drawing_loads_nothing_to_draw_with() -> None:
    slow = {"torch", "matplotlib", "scipy.stats", "scipy.optimize"}
    code = f"import sys, paper_tables.outputs, paper_tables.report; print(sorted({slow!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_figure_that_cannot_be_written_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path / "runs", ("sd3_base", "sd3_flow_text"), diagnosed=False)

    def full(*given: object) -> Executor:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing, "write_curves", full)
    assert main(["tables", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and len(told.splitlines()) == 1


def test_the_library_of_a_version_is_bundled_once_and_without_a_cache_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def bundled(snippet: str) -> str:
        made.append(snippet)
        return f"bundle {len(made)}"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundled)
    (tmp_path / "full").write_text("no folder")

    def written(home: str, version: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        monkeypatch.setattr(charts, "version", lambda package: version)
        charts.write_library(tmp_path / "vega.js")
        return (tmp_path / "vega.js").read_text()

    assert written("home", "1") == written("home", "1") == "(() => {bundle 1})();\n"
    assert [written("home", "2"), written("home", "1")] == ["(() => {bundle 2})();\n", "(() => {bundle 1})();\n"]
    assert "bundle 3" in written("full", "1") and "bundle 4" in written("full", "1")
