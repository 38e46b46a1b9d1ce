"""The report: a folder with a page that opens from a disk, without a network, and the files behind it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import redirect_stdout
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas as pd

from bench.experiments import BACKBONES
from paper_tables import claims, outputs, statistics
from paper_tables.aside import Here
from paper_tables.claims import clipping, pages
from paper_tables.claims.evidence import Evidence
from paper_tables.frame import Study
from paper_tables.report import answer, charts, page, pictures
from paper_tables.report.figures import printed
from paper_tables.report.points import ALL, points

STATIC = ("report.css", "page.js", "curves.js", "pictures.js")


def write(study: Study, out: Path, pool: Executor | None = None, others: Sequence[Study] = ()) -> None:
    """Write the folder `out`/report anew, and print where its page is.

    It is built aside and put in place when it is whole; what stood there is kept until then.

    Args:
        pool: what draws the figures and charts meanwhile.
        others: studies with other settings, for claim C18.

    Raises:
        StudyError: a record is damaged.
        OSError: the folder cannot be written.
    """
    folder, making = out / "report", out / ".report.partial"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        _write(study, making, pool or Here(), others)
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    print(f"Report: {folder / 'index.html'}")


def _write(study: Study, folder: Path, pool: Executor, others: Sequence[Study]) -> None:
    behind = folder / "files"
    behind.mkdir()
    made: list[Future[Any]] = [*outputs.draw(study, behind, pool)]
    with redirect_stdout(io.StringIO()):  # their numbers are on the page
        outputs.write_tables(study, behind)
        statistics.write(study, behind)
    found, findings = points(study, behind / "curves.csv"), answer.findings(study)
    for panel in page.panels(findings, BACKBONES[study.scale], found):
        made.append(pool.submit(charts.write, _lines(found, panel), panel["name"], behind / panel["stem"]))
    evidence = Evidence(study, others)
    verdicts = tuple(claim.judge(evidence) for claim in claims.CLAIMS)
    pages.write(study, verdicts, clipping.activity(evidence), behind)
    strips = pictures.strips(study, folder / "pictures")
    charts.write_library(folder / "vega.js")
    for each in made:
        each.result()
    context = page.context(study, findings, found, verdicts, strips, printed(behind, findings))
    (folder / "index.html").write_text(page.render(context), encoding="utf-8", newline="\n")
    with as_file(files("paper_tables.report") / "static") as static:
        for name in STATIC:
            shutil.copyfile(static / name, folder / name)


def _lines(found: pd.DataFrame, panel: dict[str, Any]) -> pd.DataFrame:
    """A panel's points, of all seeds together."""
    mine = (found["backbone"] == panel["backbone"]) & (found["task"] == panel["task"])
    lines: pd.DataFrame = found[mine & (found["seed"] == ALL)]
    return lines
