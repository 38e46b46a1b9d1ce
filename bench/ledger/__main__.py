"""The MLflow copy of a folder of runs, and the way from a table to a run.

    python -m bench.ledger create RUNS     makes the store, before many runs start at once
    python -m bench.ledger import RUNS     copies every run anew, whatever is in the store
    python -m bench.ledger reconcile RUNS  copies what is missing, and marks runs killed whose process is gone
    python -m bench.ledger links RUNS      prints the pages where a method and its GRPO-Guard twin are compared
    python -m bench.ledger find RUN_ID     prints a run's folder, MLflow id and page; also find ROW SEED, find MLFLOW_ID

The store is that of --uri, of MLFLOW_TRACKING_URI, or RUNS/mlflow.db.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bench import seals
from bench.ledger import links
from bench.ledger.copies import Copy, copy
from bench.ledger.runs import Run, folders, read
from bench.ledger.store import EXPERIMENT, Store, StoreError, default_uri
from bench.record import LedgerError


def copy_all(runs: Path, store: Store, anew: bool) -> tuple[list[Copy], list[str]]:
    """Every run that can be read in the store, and what is wrong with the others.

    Raises:
        StoreError, LedgerError: the store, or the folder of runs, cannot be used.
    """
    copies, damaged = [], []
    for folder in tqdm(folders(runs), unit="run", disable=None):
        try:
            copies.append(copy(whole(folder), store, anew))
        except StoreError:
            raise
        except (LedgerError, OSError) as error:
            damaged.append(str(error))
    return copies, damaged


def whole(folder: Path) -> Run:
    """The run in `folder`, if all that was sealed there is what was written.

    Raises:
        LedgerError: it is not, or cannot be read.
    """
    if faults := seals.damaged(folder):
        raise LedgerError("; ".join(f"{folder / name} {fault}" for name, fault in faults.items()))
    return read(folder)


def summary(copies: Sequence[Copy], damaged: Sequence[str], uri: str) -> str:
    """What was done, in a line."""
    states = Counter(each.status for each in copies)
    shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    return (
        f"bench.ledger: {len(copies)} runs ({shown}) and {sum(each.points for each in copies):,} points to {uri}; "
        f"{sum(each.not_finite for each in copies):,} values that are not finite left out; {len(damaged)} runs damaged"
    )


def run(command: str, runs: Path, uri: str | None, out: Path | None = None) -> int:
    """Creates, imports or reconciles, and keeps what is in `out`; returns the exit code: 1 if a run was damaged.

    Raises:
        StoreError, LedgerError: as `copy_all`.
    """
    if command != "create":
        folders(runs)  # a wrong folder makes no store
    store = Store(uri or default_uri(runs), runs)
    if command == "create":
        print(f"bench.ledger: {store.uri} is ready, experiment {EXPERIMENT}")
        return 0
    copies, damaged = copy_all(runs, store, anew=command == "import")
    if out and out.is_dir():
        store.keep(out)
    for message in damaged:
        print(f"bench.ledger: left out: {message}", file=sys.stderr)
    print(summary(copies, damaged, store.uri))
    return 1 if damaged else 0


def show_links(runs: Path, page: str) -> int:
    """Prints the comparisons, or that there are none.

    Raises:
        LedgerError: no folder of runs, or a run.json cannot be read.
    """
    found = list(links.comparisons(runs, page))
    for what, link in found:
        print(f"{what}\n  {link}")
    if not found:
        print(f"bench.ledger: in {runs} no method and its GRPO-Guard twin were copied; {page} shows what there is")
    return 0


def show_runs(runs: Path, words: Sequence[str], page: str) -> int:
    """Prints where the runs are.

    Raises:
        LedgerError: there is none of that name.
    """
    print("\n\n".join("\n".join(place.lines(page)) for place in links.find(runs, words)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__, formatter_class=raw)
    commands = made.add_subparsers(dest="command", required=True)
    for name in ("create", "import", "reconcile", "links"):
        command = commands.add_parser(name)
        command.add_argument("runs", type=Path, help="the folder that holds ROW/seedN")
        if name != "links":
            command.add_argument(
                "--uri", help="sqlite:///FILE, or a server's http address; tokens go into the environment"
            )
    for name in ("import", "reconcile"):
        commands.choices[name].add_argument("--out", type=Path, help="a folder of tables and figures to copy too")
    finding = commands.add_parser("find")
    finding.add_argument("words", nargs="+", metavar="RUN_ID | MLFLOW_ID | ROW [SEED]")
    finding.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="the folder that holds ROW/seedN")
    for command in (commands.choices["links"], finding):
        command.add_argument("--page", default=links.PAGE, help="where MLflow's pages are (default: %(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parser().parse_args(arguments)
    try:
        if args.command == "find":
            sys.exit(show_runs(args.runs, args.words, args.page.rstrip("/")))
        if args.command == "links":
            sys.exit(show_links(args.runs, args.page.rstrip("/")))
        sys.exit(run(args.command, args.runs, args.uri, getattr(args, "out", None)))
    except LedgerError as error:
        print(f"bench.ledger: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
