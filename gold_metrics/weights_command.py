"""`python -m gold_metrics weights`: which files the judges need, which are here, and how to get the others."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from gold_metrics import SCORERS, weights
from gold_metrics.weights import WEIGHTS, Weight, WeightsError

HEADERS = ("scorer", "file", "repository", "MB", "licence", "here", "commit")

EPILOG = """Files are kept in the cache of huggingface_hub (HF_HUB_CACHE or HF_HOME), commits and hashes in
GOLD_METRICS_HOME (default ~/.cache/gold_metrics). HF_TOKEN holds the token for repositories that ask for one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Lists or fetches; exit status 0, 1 if some files could not be had, 2 if asked for what there is not."""
    args = _parse(arguments)
    try:
        names = [_known(name) for name in args.scorers]
        if args.command == "fetch":
            return max([_fetch(name) for name in names])
        print(listing(names or list(WEIGHTS)))
    except WeightsError as error:
        print(f"gold_metrics: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gold_metrics weights", description=(__doc__ or "").split(": ")[-1], epilog=EPILOG
    )
    parser.set_defaults(scorers=[], command="list")
    commands = parser.add_subparsers(dest="command")
    listed = commands.add_parser("list", help="all files, or those of some scorers (the default)")
    listed.add_argument("scorers", nargs="*", metavar="SCORER")
    fetch = commands.add_parser("fetch", help="download what scorers need and note commit and sha256")
    fetch.add_argument("scorers", nargs="+", metavar="SCORER", help=", ".join(WEIGHTS))
    args = parser.parse_args(arguments)
    args.command = args.command or "list"
    return args


def _known(name: str) -> str:
    if name in SCORERS and name not in WEIGHTS:
        raise WeightsError(f"{name} needs no weights from here; those that do are {', '.join(WEIGHTS)}")
    if name not in WEIGHTS:
        near = difflib.get_close_matches(name, WEIGHTS, n=3) or sorted(WEIGHTS)
        raise WeightsError(f"no scorer with weights is named {name!r}; did you mean {', '.join(near)}?")
    return name


def _fetch(name: str) -> int:
    """Exit status of one scorer: the others are fetched even if it fails."""
    try:
        weights.fetch(name)
    except WeightsError as error:
        print(f"gold_metrics: {name}: {error}", file=sys.stderr)
        return 1
    print(f"{name}: {', '.join(str(folder) for folder in weights.locate(name).values())}")
    return 0


def listing(names: Sequence[str]) -> str:
    """Every file of the scorers as a table, and what is still to be fetched."""
    rows = [(name, *_row(weight)) for name in names for weight in WEIGHTS[name]]
    files = {weight for name in names for weight in WEIGHTS[name]}
    missing = {weight for weight in files if weights.present(weight) is None}
    table: str = tabulate(rows, headers=HEADERS, colalign=("left", "left", "left", "right", "left", "left", "left"))
    return f"{table}\nfiles: {len(files)}, {_total(files)}; to fetch: {len(missing)}, {_total(missing)}"


def _row(weight: Weight) -> tuple[str, ...]:
    size = "?" if weight.megabytes is None else f"{weight.megabytes:g}"
    here = "yes" if weights.present(weight) else "no"
    commit = weights.notes().get(f"{weight.repo}/{weight.file}", {}).get("commit", "")
    return weight.file, weight.repo, size, weight.licence, here, commit[:12] or "-"


def _total(files: Iterable[Weight]) -> str:
    sizes = [weight.megabytes for weight in files]
    known = f"{sum(size for size in sizes if size is not None):,.0f} MB"
    unknown = sizes.count(None)
    return f"{known} and {unknown} of unknown size" if unknown else known
