"""The figures and their numbers, as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bench.experiments import TABLE1, TABLE2, Pair
from paper_tables import gradient, log_ratio
from paper_tables.figure1 import figure1
from paper_tables.figure2 import figure2
from paper_tables.figure3 import figure3
from paper_tables.figure7 import figure7
from paper_tables.frame import PAIR_ORDER, Study, diagnostics
from paper_tables.style import save


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


def write_diagnostics(study: Study, pair: Pair | None, out: Path) -> list[Path]:
    """Figures 2 and 3 of one pair, and their numbers on the terminal."""
    if pair is None:
        wanted = ", ".join(f"{backbone} {task}" for backbone, task in PAIR_ORDER)
        print(f"Figures 2 and 3 are left out: no method and its GRPO-Guard twin are both finished on any of {wanted}.")
        return []
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
