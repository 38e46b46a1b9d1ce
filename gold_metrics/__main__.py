"""Judge images: `python -m gold_metrics IMAGE_SET --scorers hpsv2,image_reward --out scores.parquet`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate
from tqdm import tqdm

from gold_metrics import ORACLES, SCORERS, Scorer, definition_hash, judge, load, options, weights, write_scores
from gold_metrics.image_set import ImageSet, read
from gold_metrics.judging import BATCH, mean
from gold_metrics.tiny_world import belongs

if TYPE_CHECKING:
    import pandas as pd

COMMANDS = {
    "describe": ("gold_metrics.describe", "write the manifest of a folder of images"),
    "weights": ("gold_metrics.weights_command", "what the judges need, what is here, and fetch the rest"),
    "serve": ("gold_metrics.serve", "let scorers of this machine reward another"),
    "benchmark": ("gold_metrics.benchmark", "images per second of hpsv2 and image_reward"),
}

FIRST = ("hpsv2", "image_reward", "unified_reward")  # the gold scorers of the paper
EPILOG = """An image set is a folder of images with a manifest.jsonl: one JSON object per image with file, sha256,
prompt_id, prompt, seed and target (or null); `describe` writes it. A scorer leaves out what it is not for. Scores that
were had before are not asked for again. Exit status: 0 all scored, 1 some scores are missing (they are NaN with a
reason; the others are written), 2 nothing could be scored or the work was cut short (finished scores are kept).

other commands (each has --help):
""" + "".join(f"  python -m gold_metrics {name:10}{what}\n" for name, (_, what) in COMMANDS.items())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gold_metrics",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image_set", type=Path, metavar="IMAGE_SET", help="folder of images with a manifest.jsonl")
    parser.add_argument("--out", type=Path, help="parquet file for the scores, one row per score; always needed")
    scorers = f"names, separated by commas, of: {', '.join(SCORERS)}; the little world's own need not be named"
    parser.add_argument("--scorers", default="", help=scorers)
    setting = "an option of a scorer, as hpsv2.version=v2.0; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="SCORER.OPTION=VALUE", help=setting)
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images per forward pass (default: {BATCH})")
    kept = "folder of scores that were had before (default: scores/ in GOLD_METRICS_HOME)"
    parser.add_argument("--cache", type=Path, default=None, help=kept)
    parser.add_argument("--run", default="", help="what made the images, for the column `run`")
    parser.add_argument("--step", type=int, default=None, help="of that run, for the column `step`")
    args = parser.parse_args(arguments)
    if args.out is None and not args.image_set.exists():  # else `read` says so
        known = f"nor a command of that name ({', '.join(COMMANDS)})"
        parser.exit(2, f"gold_metrics: there is no folder '{args.image_set}' here, {known}\n")
    if args.out is None:
        parser.error("--out is needed: the parquet file for the scores")
    if args.batch < 1:
        parser.error(f"--batch should be at least 1, found {args.batch}")
    return args


def judged(image_set: ImageSet, scorers: Sequence[Scorer], args: argparse.Namespace) -> pd.DataFrame:
    """All scores; the file is written after each scorer, so that what is finished is kept."""
    import pandas as pd

    frames: list[pd.DataFrame] = []
    cache = args.cache or weights.home() / "scores"
    for scorer in scorers:
        with tqdm(total=len(image_set.entries), desc=scorer.name, unit="image") as bar:
            of = {"run": args.run, "step": args.step, "batch": args.batch, "cache": cache}
            frames.append(judge(image_set, [scorer], bar.update, **of))
        write_scores(pd.concat(frames, ignore_index=True), args.out)
    return pd.concat(frames, ignore_index=True)


def summary(frame: pd.DataFrame) -> str:
    """Mean, number of scores, number of missing scores and definition of each scorer, as a table."""
    rows = [
        (scorer, mean(scores), scores["score"].count(), scores["score"].isna().sum(), definition)
        for (scorer, definition), scores in frame.groupby(["scorer", "definition"], sort=False)
    ]
    headers = ("scorer", "mean", "n", "missing", "definition")
    table: str = tabulate(rows, headers=headers, floatfmt=".4f", disable_numparse=[4])
    return table


def prepare(args: argparse.Namespace) -> tuple[ImageSet, list[Scorer]]:
    """What judges and what is judged, before a long work starts."""
    image_set = read(args.image_set)
    names = [name.strip() for name in args.scorers.split(",")] if args.scorers else oracles(image_set)
    given = options.parse(args.set, names)
    if args.out.is_dir():
        raise OSError(f"--out should name a parquet file, {args.out} is a folder")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return image_set, [load(name, **given[name]) for name in dict.fromkeys(names)]


def oracles(image_set: ImageSet) -> Sequence[str]:
    """The judges of the little world, if the images are of it.

    Raises:
        ValueError: they are not.
    """
    if not any(entry.target and belongs(entry) for entry in image_set.entries):
        raise ValueError(f"these images are not of the little world: name who judges, --scorers {','.join(FIRST)}")
    return ORACLES


def report(frame: pd.DataFrame, scorers: Sequence[Scorer], out: Path) -> int:
    """Prints what was found; the exit status."""
    for scorer in scorers:
        if definition_hash(scorer.definition) not in frame["definition"].array:
            print(f"gold_metrics: {scorer.name} left out: no image here is of the kind that it judges", file=sys.stderr)
    if frame.empty:
        return 2
    for reason in frame.loc[frame["score"].isna(), "reason"].unique():
        print(f"gold_metrics: not scored: {reason}", file=sys.stderr)
    print(summary(frame))
    print(f"scores: {out}")
    return int(frame["score"].isna().any())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a fault that a person can mend is one line and status 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        status: int = importlib.import_module(COMMANDS[given[0]][0]).main(given[1:])
        return status
    args = parse(given)
    try:
        image_set, scorers = prepare(args)
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        print(f"gold_metrics: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    try:
        return report(judged(image_set, scorers, args), scorers, args.out)
    except (OSError, RuntimeError) as error:
        print(f"gold_metrics: {error}; finished scores are kept: the same command goes on", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
