"""`make faults`: small real runs through 50 SIGKILLs in training, saving, evaluating and judging, and what they end as.

Exit status: 0 if every row is complete and nothing differs from its undisturbed run, else 1.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_runs import PROMPTS, settings
from faults import JUDGE, TRAIN, FaultError, Life, live
from forked_ranks import server
from left_behind import differences
from tabulate import tabulate
from tqdm import tqdm

ROWS = ("sd3_base", "sd3_flow_text", "sd3_guard_text", "sd3_temp_text", "flux_dance_text", "flux_guard_text")
ASKED = (
    "updates=8",
    "evaluation.every=4",
    "evaluation.images_per_prompt=2",  # one image of a prompt has no variety
    "evaluation.later=[correctness,cleanliness,variety]",
)

# What a run of faults has to hit to be worth its name.
WANTED = ("train: sampling and learning", "train: checkpoint being written", "judge: scoring")


def life(row: str, folder: Path, asked: Sequence[str] = ASKED, **given: Any) -> Life:
    """A row's run under `folder`: the golds are asked later, the text proxy has a set of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.jsonl"
    texts.write_text("".join((PROMPTS / "text.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:3]))
    own = f"+evaluation.proxies={{text:{{prompts:{texts}}}}}"
    return Life(settings(row, folder, *asked, own), folder, **given)


def study(
    folder: Path, rows: Sequence[str], kills: int, seed: int, at_once: int, asked: Sequence[str] = ASKED
) -> tuple[list[Life], dict[str, Life]]:
    """Lives of the rows that are killed `kills` times in all, each row at least once, and an undisturbed life of each.

    Raises:
        FaultError: an attempt ended neither well nor by a blow.
    """
    context = server()
    whole = {row: life(row, folder / "undisturbed" / row, asked) for row in rows}
    with tqdm(total=2 * len(rows), desc="undisturbed", unit="process", disable=None) as bar:
        live(whole.values(), context, 0, at_once, lambda *_: bar.update())
    usual = {row: each.usually() for row, each in whole.items()}
    lives: list[Life] = []

    def more() -> Iterator[Life]:
        for number in itertools.count():
            if number >= len(rows) and sum(each.kills for each in lives) >= kills:
                return
            row = rows[number % len(rows)]
            made = folder / f"disturbed-{number // len(rows)}" / row
            generator = random.Random(f"{seed}/{number}/{row}")
            lives.append(life(row, made, asked, usual=usual[row], generator=generator, most=-(-kills // len(rows))))
            yield lives[-1]

    with tqdm(total=kills, desc="disturbed", unit="kill", disable=None) as bar:
        live(more(), context, kills, at_once, lambda _, attempt: bar.update(attempt.code != 0))
    return lives, whole


def tally(lives: Sequence[Life], whole: dict[str, Life]) -> tuple[str, bool]:
    """The report, and whether nothing differs."""
    attempts = [attempt for each in lives for attempt in each.attempts]
    killed = [attempt for attempt in attempts if attempt.code]
    aimed = sum(bool(attempt.blow.part) for attempt in killed if attempt.blow)
    phases = sorted(Counter(attempt.phase for attempt in killed).items())
    found = [differences(whole[each.asked.row].run, each.run) for each in lives]
    rows = [_line(each, wrong) for each, wrong in zip(lives, found, strict=True)]
    heads = ("row", "attempts", "kills", "resumed from update", "differs in")
    parts = [tabulate(phases, headers=("killed while", "kills")), tabulate(rows, headers=heads)]
    parts += [f"{len(killed)} kills, {len(killed) - aimed} at a moment, {aimed} at a write or soon after it"]
    parts += [f"{len(attempts)} attempts at {len(lives)} runs, of which {sum(map(bool, found))} differ"]
    return "\n\n".join(parts), not any(found)


def _line(each: Life, wrong: list[str]) -> tuple[object, ...]:
    tried = {kind: sum(attempt.kind == kind for attempt in each.attempts) for kind in (TRAIN, JUDGE)}
    resumed = [
        str(attempt.resumed) for attempt in each.attempts if attempt.kind == TRAIN and attempt.resumed is not None
    ]
    attempts = f"{tried[TRAIN]} + {tried[JUDGE]}"
    return each.asked.row, attempts, each.kills, " ".join(resumed), "; ".join(wrong) or "nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--folder", type=Path, help="where the runs are kept (default: nowhere)")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            lives, whole = study(args.folder or Path(scratch), ROWS, args.kills, args.seed, args.jobs)
        except FaultError as error:
            print(f"make faults: {error}", file=sys.stderr)
            return 1
        report, same = tally(lives, whole)
    print(f"{report} (seed {args.seed}, {time.monotonic() - began:.0f} s)")
    if untouched := [phase for phase in WANTED if phase not in report]:
        print(f"make faults: nothing was killed during {', '.join(untouched)}; take another SEED or more KILLS")
    return int(not same or bool(untouched))


if __name__ == "__main__":
    sys.exit(main())
