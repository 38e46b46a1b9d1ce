"""How fast the runner is: `python -m bench.perf [overrides] [--backbone sd3|flux] [--scale tiny|paper] ...`.

Measures rollout, update, decoding and scoring of one micro-batch: of the tiny pipelines, or on a GPU of the full-size
ones with random weights. With FLOW_GRPO_DIR, a checkout of the official flow_grpo code, it then compares with that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from bench import costs
from bench.architectures import ArchitectureError
from bench.config import Config, ConfigError
from bench.experiments import RowError
from bench.perf import report, stages
from bench.perf.meter import Clock, machine
from bench.perf.peer import COMMIT, CheckoutError, Peer
from bench.perf.stages import Stage
from bench.perf.subjects import Subject, compile_blocks, settings_of, subject
from bench.policy import PolicyError
from bench.prompts import PromptError
from bench.ranks import Ranks
from bench.update import GateError


class NoRoomError(RuntimeError):
    """The machine cannot hold what is to be measured; the message says what that needs."""


KNOWN_ERRORS = (
    ConfigError,
    RowError,
    PromptError,
    PolicyError,
    ArchitectureError,
    CheckoutError,
    GateError,
    NoRoomError,
    OSError,
)
UNSET = "flow_grpo: not compared; FLOW_GRPO_DIR=FOLDER, a checkout of it at {}, compares with the official code"


def check_room(settings: Config, device: torch.device) -> None:
    """Whether a full-size epoch fits, as `bench.costs` counts it.

    Raises:
        NoRoomError: there is no GPU, or too little memory free.
    """
    if settings.scale == "tiny":
        return
    needed = costs.plan(settings).total("bytes_") / 1e9
    wanted = f"{settings.row} at full size needs {needed:.0f} GB of a GPU by bench.costs, beside decoding"
    if device.type != "cuda":
        raise NoRoomError(f"{wanted}, and there is no GPU here; --scale tiny runs on a CPU")
    free = torch.cuda.mem_get_info(device)[0] / 1e9
    if free < needed:
        raise NoRoomError(f"{wanted}, and {free:.0f} GB are free; lower --batch or give checkpointing=true")


def throughput(subject: Subject, args: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints the stages; the same as data."""
    clock = Clock(subject.policy.device)
    peak = stages.peaks(subject, clock)
    found = stages.measure(subject, clock, args.repeats, peak)
    shown = ", ".join(f"{name} {value / 1e12:.3g}" for name, value in peak.items())
    print(f"{subject.settings.row}, {len(subject.members)} images, {subject.backbone.resolution} pixels")
    print(f"matrix products, TFLOP/s: {shown}\n{table(found)}")
    print("\n".join(f"{each.name}: {each.note}" for each in found if each.note))
    return {"peak_flop_per_second": peak, "stages": [asdict(each) for each in found]}


def table(found: Sequence[Stage]) -> str:
    """The stages as text."""
    rows = [
        {
            "stage": each.name,
            "seconds": f"{each.seconds:.3g}" if each.seconds else "-",
            "images/s": f"{each.images / each.seconds:.3g}" if each.seconds else "-",
            "TFLOP/s": f"{each.operations / each.seconds / 1e12:.3g}" if each.operations and each.seconds else "-",
            "share of peak": f"{each.share:.0%}" if each.share else "-",
            "peak GB": f"{each.peak_bytes / 1e9:.3g}" if each.seconds else "-",
        }
        for each in found
    ]
    return str(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, stralign="right"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.perf", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for bench.train: optim.stacked_steps=3 ...")
    parser.add_argument("--backbone", choices=("sd3", "flux"), default="sd3")
    parser.add_argument("--scale", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--batch", type=int, help="images of the micro-batch (default: the scale's)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=9,
        help="turns; of stages the median counts, of the comparison the least (default: 9)",
    )
    parser.add_argument("--compiled", action="store_true", help="compile the transformer's blocks first")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases of the comparison with TEXT in their names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; the same as data.

    Raises:
        one of `KNOWN_ERRORS`: a setting, the machine or the checkout does not allow it.
    """
    if args.repeats < 2 or (args.batch is not None and args.batch < 1):
        raise ConfigError(
            f"wanted two --repeats or more and a --batch of 1 or more, found {args.repeats}, {args.batch}"
        )
    folder, device = os.environ.get("FLOW_GRPO_DIR"), Ranks().device
    peer = Peer(Path(folder)) if folder else None  # before what takes time
    settings = settings_of(f"{args.backbone}_guard_text", args.scale, args.batch, args.overrides)
    check_room(settings, device)
    made = subject(settings, device)
    if args.compiled:
        compile_blocks(made.policy)
    found = {"machine": machine(device), **throughput(made, args)}
    if peer is None:
        print(UNSET.format(COMMIT[:7]))
        return found
    return found | {"flow_grpo": COMMIT, "side_by_side": report.compare(peer, args.repeats, args.only)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse(arguments)
    try:
        found = run(args)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except KNOWN_ERRORS as error:
        print(f"bench.perf: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
