"""`python -m bench.status [RUNS]`: every run of a suite, how far it is and how long it will take.

Read from the run folders alone (`bench.standing`), so that it answers at once, on a login node too.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from bench.experiments import ROWS, SUITES, RowError, find_row
from bench.standing import STATES, Standing, read

WIDTH = 100  # characters of a line
HOST = 14  # characters of a host's name


def survey(runs: Path, rows: Sequence[str], seeds: Sequence[int], others: bool) -> list[Standing]:
    """Every run of the rows and seeds, begun or not, in the order of the tables.

    Args:
        seeds: those asked for; empty for those that are there, or 0.
        others: whether runs of other rows are shown too.
    """
    found = {
        (path.parent.name, int(path.name.removeprefix("seed"))): path
        for path in runs.glob("*/seed*")
        if path.name.removeprefix("seed").isdigit() and path.is_dir()
    }
    wanted = list(seeds) or sorted({seed for _, seed in found}) or [0]
    asked = {(row, seed) for row in rows for seed in wanted}
    asked |= {each for each in found if others and each[1] in wanted}
    order = {name: number for number, name in enumerate(ROWS)}
    listed = sorted(asked, key=lambda each: (order.get(each[0], len(order)), *each))
    return [read(found[each]) if each in found else Standing(*each, "not begun") for each in listed]


def table(runs: Sequence[Standing]) -> str:
    """A line for each run, its error below it, and how many are in which state; at most `WIDTH` characters wide."""
    heads = ("row", "seed", "state", "host", "update", "images/s", "time left")
    lines = tabulate(
        [_cells(run) for run in runs], heads, "simple", disable_numparse=True, colalign=("left", "right", *["left"] * 2)
        + ("right",) * 3,
    ).splitlines()  # fmt: skip
    shown = lines[:2]
    for run, line in zip(runs, lines[2:], strict=True):
        shown += [line.rstrip()] + [_shortened(f"    {run.error}", WIDTH)] * bool(run.error)
    counts = Counter(run.state for run in runs)
    return "\n".join([*shown, ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])])


def _cells(run: Standing) -> tuple[str, ...]:
    begun = run.state not in ("not begun", "damaged")
    return (
        run.row,
        str(run.seed),
        run.state,
        _shortened(run.host, HOST),
        f"{run.update}/{run.of}" if begun else "",
        f"{run.images_per_second:.3g}" if run.images_per_second else "",
        _duration(run.seconds_left) if run.seconds_left is not None else "",
    )


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.status", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="?", type=Path, default=Path("runs/tiny"), help="default: runs/tiny")
    parser.add_argument("--suite", choices=SUITES, help="its rows alone (default: table1's, and all that is there)")
    parser.add_argument("--row", action="append", default=[], metavar="NAME", help="this row alone; may be repeated")
    parser.add_argument("--seed", action="append", default=[], type=int, metavar="N", help="default: those there")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print data")
    shown.add_argument(
        "--state", action="store_true", help="print the state of one run, for a script: --row and --seed"
    )
    args = parser.parse_args(arguments)
    if args.state and not len(args.row) == len(args.seed) == 1:
        parser.error("--state answers for one run: name one --row and one --seed")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse(arguments)
    try:
        rows = [find_row(name).name for name in args.row] or SUITES[args.suite or "table1"]
    except RowError as error:
        sys.exit(f"bench.status: {error}")
    if not args.runs.is_dir():
        print(f"bench.status: no folder of runs at {args.runs}", file=sys.stderr)
        sys.exit(2)
    runs = survey(args.runs, rows, args.seed, others=not (args.row or args.suite))
    if args.state:
        print(runs[0].state)
    elif args.json:
        print(json.dumps([asdict(run) for run in runs], indent=1))
    else:
        print(table(runs))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    main()
