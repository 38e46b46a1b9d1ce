"""A finished run packed into a cell: what is read from it is what is read from the run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_ledger import write_run, write_study

from bench import cells, ledger, seals, strips
from bench.ledger.runs import points
from bench.record import LedgerError
from gold_metrics import image_set
from gold_metrics.judging import frame_of, write_scores
from gold_metrics.scorer import Entry
from paper_tables.__main__ import main
from paper_tables.frame import StudyError, read

ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text", "ablation_mean_revised")
PROMPTS, MEMBERS, UPDATES = 10, 2, (0, 20, 40)


def pack_all(runs: Path, out: Path, pictures: bool = False) -> Path:
    for run in ledger.load(runs):
        cells.pack(run, out, pictures)
    return out


def paint(run: Path, update: int) -> None:
    """An image set of noise and its scores, one of them missing."""
    generator = np.random.default_rng(update)
    entries = [
        Entry(f"p{i}-{m}.png", "", f"p{i}", f"prompt {i}", m, None) for m in range(MEMBERS) for i in range(PROMPTS)
    ]
    pictures = [generator.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in entries]
    made = image_set.write(run / "images" / f"update-{update:06d}", pictures, entries).entries
    values = [*generator.normal(size=len(made) - 1), None]
    of = ("r", update, "correctness", "d")
    rows = [
        (e.file, e.sha256, e.prompt_id, e.prompt, e.seed, *of, value, "" if value else "torn", "", "")
        for e, value in zip(made, values, strict=True)
    ]
    write_scores(frame_of(rows), run / "scores" / f"update-{update:06d}.parquet")


@pytest.fixture
def run(tmp_path: Path) -> ledger.Run:
    """A finished run with images, scores and times, all of it sealed."""
    folder = write_run(tmp_path / "runs", "sd3_guard_text")
    for update in UPDATES:
        paint(folder, update)
    (folder / "times.jsonl").write_text('{"epoch": 1, "host": "node7", "ranks": 1, "seconds": 2.5}\n')
    info = json.loads((folder / "run.json").read_text())
    info["config"] |= {"tracking": "http://mlflow.example:5000", "weights": "/home/me/bench/tiny/weights/sd3"}
    (folder / "run.json").write_text(json.dumps(info))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "times.jsonl"]
    seals.seal(folder, *(path for path in files if path.suffix != ".png"))
    return ledger.read(folder)


def packed(run: ledger.Run, tmp_path: Path) -> ledger.Run:
    return ledger.read(cells.pack(run, tmp_path / "cells", pictures=True))


def test_what_mlflow_is_shown_of_a_cell_is_what_it_is_shown_of_the_run(run: ledger.Run, tmp_path: Path) -> None:
    cell = ledger.read(cells.pack(run, tmp_path / "cells"))
    ours, theirs = (sorted(points(each), key=str) for each in (cell, run))
    assert ours == theirs and any(name.startswith("ratio/mean/off_policy/") for name, _, _ in ours)
    assert not list(points(cell, {"metrics.jsonl": len(UPDATES)}))  # copied before, and a cell never grows


def test_tables_and_figures_of_cells_are_those_of_the_runs_byte_for_byte(
    tmp_path: Path,
    undrawn: None,  # a figure is a function of the data beside it
) -> None:
    runs = write_study(tmp_path / "runs", ROWS)
    write_study(runs, ROWS[:2], seeds=(1,))
    kept = pack_all(runs, tmp_path / "cells")
    for folder in (runs, kept):
        assert main(["--runs", str(folder), "--out", str(tmp_path / "out" / folder.name)]) == 0
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / "out" / name).iterdir()} for name in ("runs", "cells")
    )
    assert one == two and {"table1.md", "figure2.csv", "figure2_moments.csv", "figure3.csv", "figure7.csv"} <= set(one)


def test_scores_come_back_to_the_bit_with_their_reasons(run: ledger.Run, tmp_path: Path) -> None:
    columns = ["update", "own", "scorer", "definition", "prompt_id", "prompt", "seed", "score", "reason", "part"]
    found, wanted = packed(run, tmp_path).scores(), run.scores()
    pd.testing.assert_frame_equal(found[columns], wanted[columns], check_exact=True)
    assert list(found[found["score"].isna()]["reason"]) == ["torn"] * len(UPDATES)


def test_diagnostics_come_back_to_the_bit_and_their_histograms_as_one(run: ledger.Run, tmp_path: Path) -> None:
    found, wanted = packed(run, tmp_path).diagnostics(), run.diagnostics()
    scalars = [name for name in wanted if not name.startswith("histogram")]
    pd.testing.assert_frame_equal(found[scalars], wanted[scalars], check_exact=True)
    pd.testing.assert_frame_equal(cells.summed(found), cells.summed(wanted))
    assert cells.summed(wanted)["count"].sum() == wanted["count"].sum()


def test_pictures_are_those_of_the_run_at_every_evaluation(run: ledger.Run, tmp_path: Path) -> None:
    found, wanted = packed(run, tmp_path).pictures(), run.pictures()
    assert [(p.update, p.prompt_id, p.prompt) for p in found] == [(p.update, p.prompt_id, p.prompt) for p in wanted]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, wanted, strict=True))
    assert len(found) == strips.SHOWN * len(UPDATES)
    assert [p.prompt_id for p in found[: strips.SHOWN]] == ["p0", "p1", "p3", "p4", "p5", "p6", "p8", "p9"]
    assert ledger.read(cells.pack(run, tmp_path / "cells")).pictures() == []


def test_a_cell_names_no_machine_and_keeps_the_seconds(run: ledger.Run, tmp_path: Path) -> None:
    cell = packed(run, tmp_path)
    assert cell.info["config"]["weights"] == "bench/tiny/weights/sd3"
    assert cell.info["hashes"] == run.info["hashes"] and cell.times()["seconds"].tolist() == [2.5]
    text = "".join(path.read_text() for path in cell.path.iterdir() if path.suffix in (".json", ".jsonl"))
    assert not any(word in text for word in ("node7", "example", "/home", str(tmp_path)))


@pytest.mark.parametrize("name", [cells.SCORES, cells.DIAGNOSTICS, cells.HISTOGRAMS, strips.STRIP, "run.json"])
def test_a_damaged_file_of_a_cell_is_named(run: ledger.Run, tmp_path: Path, name: str) -> None:
    cell = packed(run, tmp_path)
    content = bytearray((cell.path / name).read_bytes())
    content[content.index(b"1.3") if name == "run.json" else len(content) // 2] ^= 1
    (cell.path / name).write_bytes(content)
    readers = {cells.SCORES: cell.scores, strips.STRIP: cell.pictures}
    with pytest.raises((LedgerError, StudyError), match=name):
        readers.get(name, lambda: read(tmp_path / "cells"))()


def test_what_cannot_be_packed_is_refused_and_the_earlier_cell_stays(run: ledger.Run, tmp_path: Path) -> None:
    cell = packed(run, tmp_path)
    before = {path.name: path.read_bytes() for path in cell.path.iterdir()}
    with pytest.raises(LedgerError, match="is packed already"):
        cells.pack(cell, tmp_path / "cells")
    with (run.path / "images" / "update-000020" / "manifest.jsonl").open("ab") as file:
        file.write(b"x")
    with pytest.raises(LedgerError, match=r"update-000020/manifest\.jsonl is not what was written"):
        cells.pack(run, tmp_path / "cells")
    unfinished = ledger.Run(run.path, run.info, run.status | {"state": "running"})
    with pytest.raises(LedgerError, match="is not finished"):
        cells.pack(unfinished, tmp_path / "cells")
    assert {path.name: path.read_bytes() for path in cell.path.iterdir()} == before
    assert [path.name for path in cell.path.parent.iterdir()] == ["seed0"]


@pytest.mark.parametrize(
    "named",
    [{"row": "../elsewhere"}, {"row": "/etc"}, {"row": ".."}, {"row": 3}, {"seed": "0/../../x"}, {"seed": True}],
)
def test_a_record_whose_names_lead_out_of_a_folder_is_not_read(run: ledger.Run, named: dict[str, object]) -> None:
    (run.path / "run.json").write_text(json.dumps(run.info | named))
    with pytest.raises(LedgerError, match=r"seed0 cannot be read \(wanted a (row's name|seed)"):
        ledger.read(run.path)


def test_packing_a_run_twice_gives_the_same_bytes(run: ledger.Run, tmp_path: Path) -> None:
    one, two = (cells.pack(run, tmp_path / name, pictures=True) for name in ("one", "two"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}


def test_reading_cells_loads_no_torch() -> None:
    code = "import sys, bench.cells, bench.ledger; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
