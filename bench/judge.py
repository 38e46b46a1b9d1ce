"""`python -m bench.judge RUNS`: has the judges say what they have not said yet of the images that runs have left.

A run leaves out the judges of `evaluation.later`, and a score that could not be had is asked for again. What is judged
later is what the run would have judged itself, in its scores/ and its metrics.jsonl, byte for byte and value for value.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from bench import ledger, rewards, sample, scores
from bench.experiments import GOLD, find_row, judge_names
from bench.lock import RunLock
from bench.record import LedgerError
from bench.scores import Point
from gold_metrics import Scorer, definition_hash, options
from gold_metrics.image_set import ImageSetError
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.weights import WeightsError

POLL = 2.0  # seconds between two looks for a server; our choice: it starts in minutes
NAMES = tuple(dict.fromkeys(name for scale in GOLD for name in judge_names(scale)))  # at any scale


class JudgeError(ValueError):
    """Nothing can be judged like this; the message says what was wanted, what was found and what to do."""


FAULTS = (JudgeError, LedgerError, JudgeServerError, WeightsError, OSError)


@dataclass
class Judges:
    """The judges, each loaded once for all runs that want the same of it.

    Attributes:
        given: options that take the place of the runs' own, by judge.
        wait: seconds to wait for the judges' servers, all in all.
        anew: whether images are judged again whose scores are not what was written.
    """

    given: dict[str, dict[str, str]] = field(default_factory=dict)
    wait: float = 0.0
    anew: bool = False
    began: float = field(default_factory=time.monotonic)
    loaded: dict[str, Scorer] = field(default_factory=dict)

    def of(self, run: ledger.Run, name: str) -> Scorer:
        """The judge of that name as the run wants it, its server asked whether it is there.

        Raises:
            JudgeError: it is another than the run's.
            JudgeServerError: its server is not there, and the time to wait for it is over.
            WeightsError, ValueError, OSError: it cannot be loaded.
        """
        asked = run.info["config"]["judges"].get(name, {}) | self.given.get(name, {})
        key = json.dumps([run.info["scale"], name, asked], sort_keys=True)
        if key not in self.loaded:
            self.loaded[key] = self._ready(lambda: rewards.judge(name, run.info["scale"], {name: asked}))
        check_definition(run, self.loaded[key])
        return self.loaded[key]

    def _ready(self, load: Callable[[], Scorer]) -> Scorer:
        while True:
            try:
                scorer = load()
                sample.check_servers([scorer])
                return scorer
            except JudgeServerError:
                if time.monotonic() + POLL > self.began + self.wait:
                    raise
            time.sleep(POLL)


def check_definition(run: ledger.Run, scorer: Scorer) -> None:
    """Whether the scorer is the judge that the run's record names.

    Raises:
        JudgeError: it is not.
    """
    wanted, found = run.info["definitions"].get(scorer.name), definition_hash(scorer.definition)
    if found != wanted:
        raise JudgeError(
            f"{scorer.name} is another judge than that of {run.path}: wanted the definition {wanted}, found {found}; "
            f"give it the weights, packages and options that the run had (--set {scorer.name}.OPTION=VALUE)"
        )


def judges_of(run: ledger.Run, own: str) -> list[str]:
    """The names of those who judge one of the run's sets, in the order of its scores; nobody judges random weights."""
    if run.info["weights"] == "random":
        return []
    owners = scores.own_sets(run)
    return [name for name in judge_names(run.info["scale"]) if sample.set_of(name, owners) == own]


def judge_run(run: ledger.Run, judges: Judges, bar: tqdm) -> list[str]:
    """Asks for all that a run lacks, writes it to its scores and metrics; returns what is missing still.

    A run that goes on makes its last evaluation again, and cuts its record: only one that is over is judged.

    Raises:
        LedgerError: another process works on the run.
        OSError: its folder cannot be written.
    """
    problems = list[str]()
    with RunLock(run.path):
        run = ledger.read(run.path)
        if not run.finished:
            return [f"{run.path} is not finished, and judged when it is"]
        scores.sweep(run.path)
        for point in scores.points_of(run):
            try:
                problems += judge_point(run, point, judges, bar)
            except ImageSetError as error:
                problems.append(f"{error}; bring the file back, or run the row again with FORCE=1")
            except LedgerError as error:
                problems.append(str(error))
        mirror(run)
    return problems


def judge_point(run: ledger.Run, point: Point, judges: Judges, bar: tqdm) -> list[str]:
    """Asks for what a point lacks and logs the means of all its scores; returns what is missing still.

    Raises:
        ImageSetError, LedgerError: the images, the scores or the record are not what was written.
    """
    names, frame = judges_of(run, point.own), scores.read(point, judges.anew)
    if lacking := scores.lacking(frame, names):
        bar.set_postfix_str(f"{run.info['row']} seed {run.info['seed']} update {point.update}")
        frame = scores.complete(point, frame, names, [judges.of(run, name) for name in lacking], bar.update)
    shutil.rmtree(point.asked, ignore_errors=True)
    scores.log(run, point.update, sample.means(frame))
    return [
        missing(point, str(name), list(part["reason"])) for name, part in frame[frame["score"].isna()].groupby("scorer")
    ]


def missing(point: Point, judge: str, reasons: list[str]) -> str:
    """One line about scores that could not be had."""
    return f"{point.scores}: {len(reasons)} scores of {judge} could not be had, the first because {reasons[0]}"


def mirror(run: ledger.Run) -> None:
    """Shows the scores in MLflow, a copy: where that fails they are in the run's folder nevertheless."""
    if uri := run.info["config"]["tracking"]:
        try:
            ledger.mirror(ledger.read(run.path), uri)
        except Exception as error:
            print(f"bench.judge: MLflow was not brought up to date: {error}", file=sys.stderr)


def prepare(runs: Sequence[ledger.Run], judges: Judges) -> int:
    """Loads who is needed, so that what is refused is refused at once; how many images they are to look at.

    Raises:
        one of `FAULTS`, ValueError: a judge cannot be had, or is not that of a run.
    """
    images = 0
    for run in (run for run in runs if run.finished):
        for point in scores.points_of(run):
            with contextlib.suppress(LedgerError):  # told when its turn comes
                lacking = scores.lacking(scores.read(point, judges.anew), judges_of(run, point.own))
                images += len(lacking) * scores.count(point)
                for name in lacking:
                    judges.of(run, name)
    return images


def judge(runs: Sequence[ledger.Run], judges: Judges, images: int) -> list[str]:
    """Judges all runs, one after the other; returns what is missing still, a line each.

    Args:
        images: how many they are for the bar, as `prepare` counts them.
    """
    problems = list[str]()
    with tqdm(total=images, unit="score", mininterval=1 if sys.stderr.isatty() else 60, dynamic_ncols=True) as bar:
        for run in runs:
            try:
                problems += judge_run(run, judges, bar)
            except FAULTS as error:
                problems.append(" ".join(str(error).split()))
    return problems


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.judge", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of run folders ROW/seedN")
    parser.add_argument("--row", nargs="+", default=[], metavar="NAME", help="these rows alone")
    parser.add_argument("--seed", nargs="+", default=[], type=int, metavar="N", help="these seeds alone")
    setting = "an option of a judge, as unified_reward.base_url=http://node7:8000/v1; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="SCORER.OPTION=VALUE", help=setting)
    waiting = "how long to wait for the judges' servers to answer (default: not at all)"
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help=waiting)
    again = "judge the images again whose scores are damaged"
    parser.add_argument("--anew", action="store_true", help=again)
    return parser.parse_args(arguments)


def chosen(args: argparse.Namespace) -> list[ledger.Run]:
    """The runs that were asked for.

    Raises:
        LedgerError: there is none.
        RowError: a row has no such name.
    """
    rows = {find_row(name).name for name in args.row}
    there = [(run, run.info["row"], run.info["seed"]) for run in ledger.load(args.runs)]
    found = [run for run, row, seed in there if (not rows or row in rows) and (not args.seed or seed in args.seed)]
    if not found:
        known = ", ".join(f"{row} seed {seed}" for _, row, seed in there) or "none"
        raise LedgerError(f"no such run in {args.runs}; those there are: {known}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 all is judged, 1 something is missing still, 2 refused."""
    args = parse(arguments)
    torch.set_num_threads(1)  # as in a run
    try:
        runs, judges = chosen(args), Judges(options.parse(args.set, NAMES), args.wait, args.anew)
        images = prepare(runs, judges)
    except (*FAULTS, ValueError) as error:
        print(f"bench.judge: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    problems = judge(runs, judges, images)
    for problem in problems:
        print(f"bench.judge: {problem}", file=sys.stderr)
    print(f"{len(runs)} runs in {args.runs}: " + (f"{len(problems)} things are missing" if problems else "all judged"))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
