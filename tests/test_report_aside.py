"""What is done once, and what another process does meanwhile."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import pytest
from fake_ledger import write_study

from paper_tables import aside, outputs
from paper_tables.__main__ import main
from paper_tables.frame import curves, read


def test_curves_of_a_study_are_made_once_and_those_of_one_read_anew_again(tmp_path: Path) -> None:
    write_study(tmp_path, ("sd3_base",))
    one, other = read(tmp_path), read(tmp_path)
    assert curves(one) is curves(one)
    assert curves(one) is not curves(other) and curves(one).equals(curves(other))


def test_another_process_draws_the_same_files_and_tells_what_it_could_not(tmp_path: Path) -> None:
    study = read(write_study(tmp_path / "runs", ("sd3_base", "sd3_flow_text"), diagnosed=False))
    for name, pool in (("here", aside.here), ("there", aside.aside)):
        (tmp_path / name).mkdir()
        with pool("paper_tables.outputs") as beside:
            curves_drawn, none = outputs.draw(study, tmp_path / name, beside)
            assert none.result()[0].startswith("Figures 2 and 3 are left out") and not none.result()[1]
            with pytest.raises(OSError, match="absent"):
                outputs.draw(study, tmp_path / "absent" / name, beside)[0].result()
        names = {path.name for path in curves_drawn.result()[1]}
        assert names == {f"figure{n}.{kind}" for n in (1, 7) for kind in ("png", "pdf", "csv")}
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_a_figure_that_cannot_be_written_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path / "runs", ("sd3_base", "sd3_flow_text"), diagnosed=False)

    def full(*given: object) -> Executor:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_curves", full)
    assert main(["tables", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and len(told.splitlines()) == 1
