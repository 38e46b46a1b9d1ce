"""What is written, and what is printed on the way."""

from __future__ import annotations

import io
from concurrent.futures import Executor, Future
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from paper_tables.aside import Here
from paper_tables.bands import bands
from paper_tables.beside import printed, tables
from paper_tables.comparisons import differences, wins_table
from paper_tables.frame import Study, curves, find_pair, seed_mean
from paper_tables.table import Table, to_csv, to_latex, to_markdown
from paper_tables.table1 import extra, measured

DRAWING = "paper_tables.drawing"  # imported by what draws alone: matplotlib takes as long to load as pandas
Drawn = tuple[str, list[Path]]  # what figures show in words, and their files
FIGURES = ("figure1", "figure2", "figure3", "figure7")


def write_all(study: Study, out: Path, pool: Executor | None = None) -> None:
    """Write Table 1 and Figures 1, 2, 3 and 7 into `out`, print their numbers, and last the paths.

    A figure whose runs are not there is left out with a sentence, and its file of an earlier call is removed.

    Args:
        pool: what draws the figures meanwhile.
    """
    for name in (*FIGURES, "extra.", "differences.", "wins."):
        for old in out.glob(f"{name}*"):
            old.unlink()
    drawings = draw(study, out, pool or Here())
    paths = write_tables(study, out)
    for drawing in drawings:
        words, figures = drawing.result()
        print(words, end="")
        paths += figures
    print("\nTable and figures:")
    for path in paths:
        print(f"  {path}")


def write_tables(study: Study, out: Path) -> list[Path]:
    """Write and print Table 1 and what stands beside it."""
    paths = write_table1(study, out)
    for stem, found in (("wins", wins_table(study)), ("differences", differences(study)), ("extra", extra(study))):
        paths += write_table(found, stem, out)
    return paths


def draw(study: Study, out: Path, pool: Executor) -> list[Future[Drawn]]:
    """Have the figures drawn and their data written: Figures 1 and 7, and Figures 2 and 3.

    What both figures and tables need is made here, so that no process makes it again; meanwhile the others are drawn.
    """
    pair = find_pair(study)
    others = pool.submit(_told, "write_diagnostics", study, pair, out)
    return [pool.submit(_told, "write_curves", figure_curves(study), pair, study.golds, out), others]


def _told(write: str, *args: Any) -> Drawn:
    with redirect_stdout(io.StringIO()) as words:
        paths = getattr(import_module(DRAWING), write)(*args)
    return words.getvalue(), sorted(paths)


def write_table1(study: Study, out: Path) -> list[Path]:
    """table1.md and table1.tex, ours and the printed table; table1.csv and table1_printed.csv, each alone."""
    found = tables(study)
    markdown = "\n".join(map(to_markdown, found))
    files = {
        "table1.md": markdown,
        "table1.tex": "\n".join(map(to_latex, found)),
        "table1.csv": to_csv(measured(study)),
        "table1_printed.csv": to_csv(printed()),
    }
    print(markdown)
    return _write_files(files, out)


def write_table(found: Table | None, stem: str, out: Path) -> list[Path]:
    """`stem`.md, .tex and .csv, and the table on the terminal; nothing where there is no such table."""
    if found is None:
        return []
    print(to_markdown(found))
    files = {".md": to_markdown(found), ".tex": to_latex(found), ".csv": to_csv(found)}
    return _write_files({stem + suffix: content for suffix, content in files.items()}, out)


def _write_files(files: dict[str, str], out: Path) -> list[Path]:
    for name, content in files.items():
        (out / name).write_text(content, encoding="utf-8", newline="\n")
    return [out / name for name in files]


def figure_curves(study: Study) -> pd.DataFrame:
    """The curves of Figures 1 and 7 as `frame.seed_mean` gives them, with the bands about them."""
    frame = seed_mean(curves(study), study)
    return frame.merge(bands(study, frame["row"], frame), on=["row", "update"], how="left")
