"""What a row costs before it is paid for: `python -m bench.plan [row=NAME] [overrides] [--json]`.

Without a row: every row of Table 1. The scale is paper unless an override says scale=tiny. Nothing is downloaded and
nothing trains. `--dry-run` adds the sbatch commands that `slurm/table1.sh` would give, or another suite's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tabulate import tabulate

from bench.architectures import ArchitectureError
from bench.checkpoint import KEEP
from bench.config import ConfigError
from bench.costs import MEMORY, PEAK, PNG_BYTES, STATE_COPIES, UTILISATION, Plan, plan
from bench.experiments import SUITES, TABLE1, RowError, find_row
from bench.policy import PolicyError
from bench.prompts import PromptError
from bench.submissions import Submission, submission
from bench.suite import configure

KNOWN_ERRORS = (ConfigError, RowError, PromptError, PolicyError, ArchitectureError, OSError)
SUMMED = ("updates", "images", "forwards", "TFLOP", "GPU-h", "disk GB")  # memory is not: rows run one by one

NOTES = """
images     sampled for training and for evaluation
forwards   rows through the transformer, of which true CFG needs two: rollout, training and evaluation
TFLOP      counted on the meta device, adapter in place, attention fused; decoding and prompts are in it, judges not
GPU-h      TFLOP / ({share:g} of {peak:g} TFLOP/s, one H200 in half precision; published runs reach 0.12 to 0.25);
           GPUs: {gpus}, which share rollouts, updates and evaluations; while the first judges, the others wait
GB a GPU   frozen weights; {copies} float32 copies of what is trained, with AdamW and average; an epoch's trajectories,
           shared by the GPUs; what a micro-batch's forward keeps; without the judges, a decoding and the allocator
disk       {kept} checkpoints and one being written, what was trained, scores, metrics, {png:g} bytes a pixel of PNG"""


def line(row: Plan) -> dict[str, float]:
    """A row of the table."""
    return {
        "parameters": row.parameters,
        "trained": row.trainable,
        "updates": row.updates,
        "images": row.total("images_"),
        "forwards": row.total("forwards_"),
        "TFLOP": row.total("tflop_"),
        "GPU-h": row.hours,
        "GB a GPU": row.total("bytes_") / 1e9,
        "disk GB": row.total("disk_") / 1e9,
    }


def totals(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """The sums of what can be summed over rows."""
    return {key: sum(each[key] for each in lines) for key in SUMMED}


def table(plans: Sequence[Plan]) -> str:
    """The rows and their total, as text."""
    lines = [line(each) for each in plans]
    shown = [{"row": each.row} | made for each, made in zip(plans, lines, strict=True)]
    if len(plans) > 1:
        shown.append({"row": "total"} | dict.fromkeys(lines[0], "") | totals(lines))
    return text([{key: _number(value) for key, value in each.items()} for each in shown], "keys")


def details(row: Plan) -> str:
    """All of one row's plan, as text."""
    bytes_of = [key for key in asdict(row) if key.startswith(("bytes_", "disk_", "shared_"))]
    shown = [
        (key.replace("_", " "), f"{value / 1e9:,.3g} GB" if key in bytes_of else _number(value))
        for key, value in asdict(row).items()
    ]
    return text([*shown, ("GB a GPU", f"{row.total('bytes_') / 1e9:,.3g} GB")], ())


def text(rows: object, headers: object) -> str:
    """`rows` as a plain table, numbers to the right."""
    made: str = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, stralign="right")
    return made


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"


def notes(utilisation: float, gpus: int) -> str:
    """What the columns mean."""
    return NOTES.format(share=utilisation, peak=PEAK, gpus=gpus, copies=STATE_COPIES, kept=KEEP, png=PNG_BYTES)


def warnings(plans: Sequence[Plan]) -> list[str]:
    """What to know before one of these runs is started."""
    large = [each.row for each in plans if each.total("bytes_") > MEMORY]
    slow = sorted({each.row for each in plans if each.scale == "paper" and each.dtype == "float32"})
    largest = max(each.shared_embeddings for each in plans)
    found = {
        f"beside that up to {largest / 1e9:,.0f} GB of prompt embeddings on disk, one copy for all rows of a backbone; "
        "the backbone's embeddings=null keeps none": largest > 1e9,
        f"more than the {MEMORY / 1e9:.0f} GB of one H200: {', '.join(large)}; "
        "lower optim.micro_batch, add GPUs, or set the backbone's dtype, checkpointing or embeddings": large,
        f"weights in float32, so more hours than these: {', '.join(slow)}": slow,
    }
    return [warning for warning, rows in found.items() if rows]


def as_json(plans: Sequence[Plan], utilisation: float, gpus: int) -> str:
    """The same as data: `rows`, `total` and what the hours assume."""
    rows = [asdict(each) for each in plans]
    assumed = {"utilisation": utilisation, "gpus": gpus, "peak_tflop_per_second": PEAK}
    return json.dumps({"rows": rows, "total": totals([line(each) for each in plans])} | assumed, indent=2)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.plan", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="row=NAME, and as for bench.train: scale=tiny updates=60 ...")
    parser.add_argument("--json", action="store_true", help="print data")
    share = f"share of {PEAK:g} TFLOP/s that is reached (default: {UTILISATION:g})"
    parser.add_argument("--utilisation", type=float, default=UTILISATION, help=share)
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share a run (default: 1)")
    dry = f"what Slurm would be given, and its GPU-hours: {', '.join(SUITES)} (default: table1)"
    parser.add_argument("--dry-run", nargs="?", const="table1", metavar="SUITE", help=dry)
    return parser.parse_intermixed_args(arguments)


def plans_of(overrides: Sequence[str], utilisation: float, gpus: int) -> list[Plan]:
    """The plan of the row that `overrides` names, or of every row of Table 1.

    Raises:
        one of `KNOWN_ERRORS`: the overrides name what is not, or do not fit together.
    """
    named = [item.removeprefix("row=") for item in overrides if item.startswith("row=")]
    others = [item for item in overrides if not item.startswith("row=")]
    if not any(item.startswith("scale=") for item in others):
        others.insert(0, "scale=paper")
    rows = [find_row(name).name for name in named] or list(TABLE1)
    return [plan(configure(row, others), utilisation, gpus) for row in rows]


def dry_run(suite: str, overrides: Sequence[str], utilisation: float) -> str:
    """The commands that would be given to Slurm, and the GPU-hours of what they train, as text.

    Raises:
        one of `KNOWN_ERRORS`: as `plans_of`, or the scripts refuse.
    """
    if suite not in SUITES:  # `--dry-run scale=tiny` is about table1
        suite, overrides = "table1", [suite, *overrides]
    asked = submission(suite, overrides)
    overrides = [f"scale={asked.scale}", *(item for item in overrides if not item.startswith("scale="))]
    others = [item for item in overrides if not item.startswith(("row=", "seed="))]
    plans = [plans_of([f"row={row}", *others], utilisation, max(asked.gpus, 1))[0] for row in asked.rows]
    assumed = f"GPU-h at {utilisation:g} of {PEAK:g} TFLOP/s; judges and what a preempted epoch repeats come on top"
    return "\n".join([*asked.commands, "", hours(plans, asked), assumed])


def hours(plans: Sequence[Plan], asked: Submission) -> str:
    """A line for each row and their sum: GPU-hours of all seeds, and the hours of a seed on its GPUs."""
    seeds = len(asked.seeds)
    shown = [
        {"row": each.row, "seeds": seeds, "GPU-h": each.hours * seeds, "GPUs": asked.gpus}
        | ({"hours a seed": each.hours / asked.gpus} if asked.gpus else {})
        for each in plans
    ]
    shown.append({"row": "total", "seeds": "", "GPU-h": sum(each.hours for each in plans) * seeds})
    return text([{key: _number(value) for key, value in each.items()} for each in shown], "keys")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse(arguments)
    try:
        if args.dry_run:
            print(dry_run(args.dry_run, args.overrides, args.utilisation))
            return
        plans = plans_of(args.overrides, args.utilisation, args.gpus)
    except KNOWN_ERRORS as error:
        print(f"bench.plan: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if args.json:
        print(as_json(plans, args.utilisation, args.gpus))
        return
    shown = details(plans[0]) if len(plans) == 1 else table(plans)
    print("\n".join([shown, notes(args.utilisation, args.gpus), *warnings(plans)]))


if __name__ == "__main__":
    main()
