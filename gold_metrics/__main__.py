"""Judge an image set: `python -m gold_metrics IMAGE_SET --out scores.parquet`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate
from tqdm import tqdm

from gold_metrics import ORACLES, SCORERS, Scorer, judge, load, write_scores
from gold_metrics.image_set import ImageSet, ImageSetError, read

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """An image set is a folder of PNGs with a manifest.jsonl: one JSON object per image with file, sha256,
prompt_id, prompt, seed and target (or null). A scorer leaves out what it is not for. Exit status: 0 all scored, 1 some
scores are missing (they are NaN with a reason; the others are written), 2 nothing could be scored."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gold_metrics", description=__doc__, epilog=EPILOG)
    parser.add_argument("image_set", type=Path, metavar="IMAGE_SET", help="folder of PNGs with a manifest.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="parquet file for the scores, one row per score")
    listed = ",".join(ORACLES)
    scorers = f"names, separated by commas, of: {', '.join(SCORERS)} (default: {listed})"
    parser.add_argument("--scorers", default=listed, help=scorers)
    return parser.parse_args(arguments)


def judged(image_set: ImageSet, scorers: Sequence[Scorer], out: Path) -> pd.DataFrame:
    """All scores; the file is written after each scorer, so that what is finished is kept."""
    import pandas as pd

    frames = []
    with tqdm(total=len(scorers) * len(image_set.entries), unit="image") as bar:
        for scorer in scorers:
            bar.set_description(scorer.name)
            frames.append(judge(image_set, [scorer], bar.update))
            write_scores(pd.concat(frames, ignore_index=True), out)
    return pd.concat(frames, ignore_index=True)


def summary(frame: pd.DataFrame) -> str:
    """Mean, number of scores and number of missing scores of each scorer, as a table."""
    rows = [
        (scorer, scores.mean(), scores.count(), scores.isna().sum())
        for scorer, scores in frame.groupby("scorer", sort=False)["score"]
    ]
    table: str = tabulate(rows, headers=("scorer", "mean", "n", "missing"), floatfmt=".4f")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    try:
        scorers = [load(name.strip()) for name in args.scorers.split(",")]
        image_set = read(args.image_set)
        if args.out.is_dir():
            raise OSError(f"--out should name a parquet file, {args.out} is a folder")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        frame = judged(image_set, scorers, args.out)
    except (KeyError, ImageSetError, OSError) as error:
        print(f"gold_metrics: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    for name in {scorer.name: None for scorer in scorers}:
        if name not in frame["scorer"].array:
            print(f"gold_metrics: {name} left out: no image here is of the kind that it judges", file=sys.stderr)
    if frame.empty:
        return 2
    for reason in frame.loc[frame["score"].isna(), "reason"].unique():
        print(f"gold_metrics: not scored: {reason}", file=sys.stderr)
    print(summary(frame))
    print(f"scores: {args.out}")
    return int(frame["score"].isna().any())


if __name__ == "__main__":
    sys.exit(main())
