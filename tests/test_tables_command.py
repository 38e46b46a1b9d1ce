"""`python -m paper_tables` as a person calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_ledger import write_study

from paper_tables.__main__ import main

# In a process of its own, whose figures another one draws; the same call in the tests' process draws them itself.
WITNESS = (
    "import sys; from paper_tables.__main__ import aside, main; code = main(sys.argv[1:], aside);"
    "unwanted = {'torch', 'mlflow', 'diffusers', 'matplotlib.pyplot'} & set(sys.modules);"
    "print(sorted(unwanted), file=sys.stderr);"
    "sys.exit(code)"
)
ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text", "flux_base", "flux_dance_text")  # enough for every figure
STEMS = ("figure1", "figure2", "figure3", "figure7")
EXPECTED = {f"{stem}.{kind}" for stem in STEMS for kind in ("png", "pdf", "csv")} | {
    "table1.md", "table1.csv", "table1.tex", "table1_printed.csv", "figure2_moments.csv",
}  # fmt: skip


def call(runs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", WITNESS, "--runs", str(runs), "--out", str(out)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_everything_is_written_equally_each_time_its_place_told_last_and_no_torch_loaded(
    tmp_path: Path,
) -> None:
    runs = write_study(tmp_path / "runs", ROWS)
    first = call(runs, tmp_path / "one")
    assert (first.returncode, first.stderr) == (0, "[]\n")
    assert set(contents(tmp_path / "one")) == EXPECTED
    shown = first.stdout.splitlines()
    assert shown[0] == "**Table 1, tiny scale, measured**"
    assert {Path(line.strip()).name for line in shown[shown.index("Table and figures:") + 1 :]} == EXPECTED
    assert main(["--runs", str(runs), "--out", str(tmp_path / "two")]) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_cannot_be_drawn_is_told_and_its_old_file_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_study(tmp_path / "runs", ("sd3_base",))
    (tmp_path / "figure2.png").touch()
    assert main(["--runs", str(runs), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in ("Figure 1 is left out", "Figure 7 is left out", "Figures 2 and 3 are left out"):
        assert words in shown
    assert not (tmp_path / "figure2.png").exists()


def test_rows_beside_table_1_are_written_where_they_are_and_removed_where_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], undrawn: None
) -> None:
    out = tmp_path / "out"
    for rows in (("sd3_base", "sd3_flow_kl_text"), ("sd3_base",)):
        runs = write_study(tmp_path / f"runs{len(rows)}", rows)
        assert main(["--runs", str(runs), "--out", str(out)]) == 0
        written = {"extra.csv", "extra.md", "extra.tex"} if len(rows) == 2 else set()
        assert {path.name for path in out.glob("extra*")} == written
        assert ("**Beside Table 1, tiny scale, measured**" in capsys.readouterr().out) == bool(written)


@pytest.mark.parametrize("damage", ["no folder", "nothing finished", "damaged line", "no folder to write to"])
def test_bad_input_is_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    if damage == "nothing finished":
        write_study(runs, ("sd3_flow_text",), state="failed", error="killed\nby the scheduler")
    elif damage != "no folder":
        write_study(runs, ("sd3_base",))
    if damage == "damaged line":
        (runs / "sd3_base" / "seed0" / "metrics.jsonl").write_text("{\n{}\n")
    if damage == "no folder to write to":
        out.touch()
    assert main(["--runs", str(runs), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("paper_tables: ")
