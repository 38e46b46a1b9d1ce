"""The report: a folder with a page that opens from a disk, without a network, and the files behind it."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stdout
from importlib.resources import as_file, files
from pathlib import Path

import vl_convert

from paper_tables import claims, outputs, statistics
from paper_tables.claims import clipping, pages
from paper_tables.claims.evidence import Evidence
from paper_tables.frame import Study
from paper_tables.report import answer, charts, page, pictures
from paper_tables.report.figures import printed
from paper_tables.report.points import ALL, points

STATIC = ("report.css", "page.js", "curves.js", "pictures.js")


def write(study: Study, out: Path) -> None:
    """Write the folder `out`/report anew, and print where its page is.

    It is built aside and put in place when it is whole; what stood there is kept until then.

    Raises:
        StudyError: a record is damaged.
        OSError: the folder cannot be written.
    """
    folder, making = out / "report", out / ".report.partial"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        _write(study, making)
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    print(f"Report: {folder / 'index.html'}")


def _write(study: Study, folder: Path) -> None:
    behind = folder / "files"
    behind.mkdir()
    evidence = Evidence(study)
    verdicts = tuple(claim.judge(evidence) for claim in claims.CLAIMS)
    with redirect_stdout(io.StringIO()):  # their numbers are on the page
        outputs.write_all(study, behind)
        statistics.write(study, behind)
    pages.write(study, verdicts, clipping.activity(evidence), behind)
    found, findings = points(study, behind / "curves.csv"), answer.findings(study)
    strips = pictures.strips(study, folder / "pictures")
    context = page.context(study, findings, found, verdicts, strips, printed(behind, findings))
    for panel in context["panels"]:
        lines = found[
            (found["seed"] == ALL) & (found["backbone"] == panel["backbone"]) & (found["task"] == panel["task"])
        ]
        charts.write(lines, panel["name"], behind / panel["stem"])
    (folder / "index.html").write_text(page.render(context), encoding="utf-8", newline="\n")
    with as_file(files("paper_tables.report") / "static") as static:
        for name in STATIC:
            shutil.copyfile(static / name, folder / name)
    (folder / "vega.js").write_text(
        f"(() => {{{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}}})();\n", encoding="utf-8"
    )
