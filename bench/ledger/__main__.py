"""The MLflow copy of a folder of runs.

    python -m bench.ledger create RUNS     makes the store, before many runs start at once
    python -m bench.ledger import RUNS     copies every run anew, whatever is in the store
    python -m bench.ledger reconcile RUNS  copies what is missing, and marks runs killed whose process is gone

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


def run(command: str, runs: Path, uri: str | None) -> int:
    """Does a command; returns its exit code: 1 if a run was damaged.

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
    for message in damaged:
        print(f"bench.ledger: left out: {message}", file=sys.stderr)
    print(summary(copies, damaged, store.uri))
    return 1 if damaged else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=("create", "import", "reconcile"))
    parser.add_argument("runs", type=Path, help="the folder that holds ROW/seedN")
    parser.add_argument("--uri", help="sqlite:///FILE, or a server's http address; tokens go into the environment")
    args = parser.parse_args(arguments)
    try:
        sys.exit(run(args.command, args.runs, args.uri))
    except LedgerError as error:
        print(f"bench.ledger: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
