"""`python -m paper_tables [tables|statistics|claims|report] [--runs runs/tiny] [--out out]`: what stored runs show.

tables      Table 1 and Figures 1, 2, 3 and 7 (the default)
statistics  every mean, difference and curve with its interval
claims      the paper's claims, each with a verdict
report      a page with all of it, to be opened in a browser
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.ledger import varied
from paper_tables.aside import Beside, aside, here
from paper_tables.frame import StudyError, read

# Imported when asked for: the page's charts and the figures take a second each to load.
WRITERS = {
    "tables": ("paper_tables.outputs", "write_all"),
    "statistics": ("paper_tables.statistics", "write"),
    "claims": ("paper_tables.claims", "write"),
    "report": ("paper_tables.report", "write"),
}

DRAWING = ("tables", "report")  # whose figures another process draws
JUDGING = ("claims", "report")  # which compare the claims' studies of other settings


def main(argv: Sequence[str] | None = None, beside: Beside = here) -> int:
    """Write what was asked for, print its numbers, and last where things are.

    Args:
        beside: what draws meanwhile, `aside.aside` or `aside.here`.

    Returns:
        0, or 2 after one line on standard error where the runs cannot be tabulated or the files not written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m paper_tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=list(WRITERS), default="tables", help="what to make; the tables")
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="folder of run folders ROW/seedK")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for what is made")
    help_other = "for C18, folders of other settings, or none; those at RUNS/../settings/*/NAME"
    parser.add_argument("--other", type=Path, nargs="*", help=help_other)
    arguments = parser.parse_args(argv)
    if arguments.other and arguments.what not in JUDGING:
        parser.error(f"--other is for {' and '.join(JUDGING)} alone")
    try:
        with beside("paper_tables.drawing") if arguments.what in DRAWING else nullcontext() as pool:
            study = read(arguments.runs)
            more: dict[str, Any] = {"pool": pool} if pool else {}
            if arguments.what in JUDGING:
                others = varied(arguments.runs).values() if arguments.other is None else arguments.other
                more["others"] = [read(root) for root in others]
            arguments.out.mkdir(parents=True, exist_ok=True)
            _writer(arguments.what)(study, arguments.out, **more)
    except StudyError as error:
        print(f"paper_tables: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"paper_tables: cannot write to {arguments.out}: {error}; choose another with --out", file=sys.stderr)
        return 2
    return 0


def _writer(what: str) -> Callable[..., None]:
    module, name = WRITERS[what]
    writer: Callable[..., None] = getattr(import_module(module), name)
    return writer


if __name__ == "__main__":
    sys.exit(main(beside=aside))
