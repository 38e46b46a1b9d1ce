"""`python -m paper_tables [--runs runs/tiny] [--out out]`: the table and the figures from stored runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_tables import outputs
from paper_tables.frame import StudyError, read


def main(argv: Sequence[str] | None = None) -> int:
    """Write everything, print Table 1 and the numbers of Figures 2 and 3, and last where things are.

    Returns:
        0, or 2 after one line on standard error where the runs cannot be tabulated or the files not written.
    """
    parser = argparse.ArgumentParser(prog="python -m paper_tables", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="folder of run folders ROW/seedK")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the table and the figures")
    arguments = parser.parse_args(argv)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        outputs.write_all(read(arguments.runs), arguments.out)
    except StudyError as error:
        print(f"paper_tables: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"paper_tables: cannot write to {arguments.out}: {error}; choose another with --out",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
