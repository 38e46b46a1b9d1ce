"""What is written, and what is printed on the way."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.experiments import TABLE1, TABLE2, Pair
from paper_tables import gradient, log_ratio
from paper_tables.aside import Here
from paper_tables.bands import bands
from paper_tables.beside import printed, tables
from paper_tables.comparisons import differences, wins_table
from paper_tables.figure1 import figure1
from paper_tables.figure2 import figure2
from paper_tables.figure3 import figure3
from paper_tables.figure7 import figure7
from paper_tables.frame import PAIR_ORDER, Study, curves, diagnostics, find_pair, seed_mean
from paper_tables.style import save
from paper_tables.table import Table, to_csv, to_latex, to_markdown
from paper_tables.table1 import extra, measured

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

    What both figures and tables need is made here, so that no process makes it again.
    """
    pair = find_pair(study)
    first = pool.submit(_told, write_curves, figure_curves(study), pair, study.golds, out)
    return [first, pool.submit(_told, write_diagnostics, study, pair, out) if pair else pool.submit(_told, _no_pair)]


def _told(write: Callable[..., list[Path]], *args: Any) -> Drawn:
    with redirect_stdout(io.StringIO()) as words:
        paths = write(*args)
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


def write_curves(frame: pd.DataFrame, pair: Pair | None, golds: tuple[str, ...], out: Path) -> list[Path]:
    """Figures 1 and 7, as far as their rows have been run; `frame` as `figure_curves` gives it."""
    paths: list[Path] = []
    trained = frame[frame["row"].isin([row.name for row in TABLE1.values() if row.recipe])]
    ablated = frame[frame["row"].isin([row.name for row in TABLE2.values()])]
    if len(trained):
        paths += _write(figure1(trained, pair), {"figure1": trained}, out)
    if len(ablated):
        paths += _write(figure7(ablated, golds), {"figure7": ablated}, out)
    for name, part in (("Figure 1", trained), ("Figure 7", ablated)):
        if part.empty:
            print(f"{name} is left out: none of its rows has a finished run.")
    return paths


def write_diagnostics(study: Study, pair: Pair, out: Path) -> list[Path]:
    """Figures 2 and 3 of one pair, and their numbers on the terminal."""
    frame = diagnostics(study.of([pair.base, pair.guard]))
    if set(frame.loc[frame["inner"] > 0, "method"] if len(frame) else ()) != {pair.base.method, pair.guard.method}:
        print(f"Figures 2 and 3 are left out: {pair.base.name} and {pair.guard.name} have no diagnostics.")
        return []
    moments, histograms = log_ratio.moments(frame), log_ratio.histograms(frame)
    norms = gradient.per_step(frame, pair)
    print(log_ratio.statements(moments, pair), gradient.statements(norms, pair), sep="\n\n")
    figure = figure2(histograms, moments, pair)
    paths = _write(figure, {"figure2": histograms, "figure2_moments": moments}, out)
    return paths + _write(figure3(norms, pair), {"figure3": norms}, out)


def _write(figure: Figure, data: dict[str, pd.DataFrame], out: Path) -> list[Path]:
    """The figure under its first data frame's name, and every data frame as CSV beside it."""
    paths = save(figure, out / next(iter(data)))
    for name, frame in data.items():
        frame.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
    return paths + [out / f"{name}.csv" for name in data]


def _no_pair() -> list[Path]:
    wanted = ", ".join(f"{backbone} {task}" for backbone, task in PAIR_ORDER)
    print(f"Figures 2 and 3 are left out: no method and its GRPO-Guard twin are both finished on any of {wanted}.")
    return []
