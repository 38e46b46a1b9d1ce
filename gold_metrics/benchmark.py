"""What one load and batches save: `python -m gold_metrics benchmark`.

Weights are random, because only time is measured. Each judge scores the same pictures, each with its own prompt, in one
call and in the way of its upstream code. HPSv2's `score` takes one prompt and reads its checkpoint in every call
(hpsv2/img_score.py:54-55 at 866735e): prompts of their own cost a read per picture. ImageReward's `score` takes one
prompt and picture (image-reward 1.5, ImageReward.py:103-137). Preprocessing, the same on both sides, is timed apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from gold_metrics.clip_models import device_of
from gold_metrics.scorer import Entry, Picture

if TYPE_CHECKING:
    import torch

    from gold_metrics.benchmark_models import Contest

# Our choice: pictures as large as many text-to-image models paint them.
SIDE = 512


@dataclass(frozen=True)
class Row:
    """Medians over the rounds, in milliseconds per picture, from the picture to its score.

    Attributes:
        preprocessing: what of `ours` and of `theirs` goes into the model's input.
        ratio, ratio_without: theirs / ours, with preprocessing and without it.
        peak_gib: largest memory of one call of ours on the GPU; None on a CPU, where it is not measured.
    """

    scorer: str
    parameters: int
    preprocessing: float
    ours: float
    theirs: float
    way: str
    ratio: float
    ratio_without: float
    peak_gib: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table, or JSON."""
    args = _parse(arguments)
    from gold_metrics import benchmark_models as models  # torch, which `--help` need not load

    device, size = args.device, models.FULL if args.full_size else models.SMALL
    rows = []
    for contest in (models.hpsv2, models.image_reward):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(contest(size, Path(folder), str(device)), args.batch, args.rounds, device))
    where = {
        "weights": "random, for time only",
        "size": "published" if args.full_size else "small",
        "device": _called(device),
        "batch": args.batch,
        "rounds": args.rounds,
    }
    if args.json:
        print(json.dumps(where | {"rows": [dataclasses.asdict(row) for row in rows]}, indent=1))
    else:
        print(_table(where, rows))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gold_metrics benchmark", description=__doc__)
    parser.add_argument("--batch", type=_count, default=16, help="pictures per call (default: 16)")
    parser.add_argument("--rounds", type=_count, default=5, help="how often each side is timed (default: 5)")
    full = "models of the published sizes, 1.4 billion random weights in all, instead of small ones"
    parser.add_argument("--full-size", action="store_true", help=full)
    parser.add_argument("--device", type=_device, default="", help="of torch (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a number from 1 on, found {text!r}")
    return int(text)


def _device(name: str) -> torch.device:
    import torch

    try:
        device = device_of(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"torch has no device {name!r} here: {reason}") from None
    return device


def _called(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} (torch threads: {torch.get_num_threads()})"


def _table(where: Mapping[str, object], rows: Sequence[Row]) -> str:
    heads = (
        "scorer",
        "weights",
        "images/s",
        "one call",
        "upstream's way",
        "preprocessing",
        "ratio",
        "without",
        "peak memory",
    )
    lines = []
    for row in rows:
        times = [f"{value:.1f} ms" for value in (row.ours, row.theirs, row.preprocessing)]
        times[1] += f" ({row.way})"
        peak = "not measured" if row.peak_gib is None else f"{row.peak_gib:.2f} GiB"
        ratios = f"{row.ratio:.1f}", f"{row.ratio_without:.1f}"
        lines.append((row.scorer, f"{row.parameters / 1e6:.1f} M", f"{1000 / row.ours:.1f}", *times, *ratios, peak))
    table: str = tabulate(lines, heads, disable_numparse=True)
    said = ", ".join(f"{name}: {value}" for name, value in where.items())
    note = "Times are per picture, preprocessing included; the ratios are upstream's time by ours, with and without it."
    return f"{said}\n\n{table}\n\n{note}"


def compare(contest: Contest, batch: int, rounds: int, device: torch.device) -> Row:
    """Times one call for all pictures and upstream's calls, one for each picture."""
    images, entries = subjects(batch)

    def ours() -> None:
        contest.scorer.score(images, entries)

    def theirs() -> None:
        for image, entry in zip(images, entries, strict=True):
            upstream(image, entry)

    peak = _peak_gib(ours, device)
    upstream = contest.upstream()  # after the measurement of memory, to which its own model would add
    theirs()  # a first call is slower than others, on either side
    fast, slow = alternate(ours, theirs, rounds)
    pixels = statistics.median(seconds(lambda: [contest.preprocess(image) for image in images]) for _ in range(rounds))
    return Row(
        scorer=contest.scorer.name,
        parameters=contest.parameters,
        preprocessing=1000 * pixels / batch,
        ours=1000 * fast / batch,
        theirs=1000 * slow / batch,
        way=contest.way,
        ratio=slow / fast,
        ratio_without=(slow - pixels) / (fast - pixels),
        peak_gib=peak,
    )


def subjects(count: int) -> tuple[list[Picture], list[Entry]]:
    """Noise, each with its own prompt: no judge's time depends on what it sees."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count)]
    prompts = [f"a painting of an ocean with clouds and birds, number {index}" for index in range(count)]
    return images, [Entry("", "", prompt, prompt, 0) for prompt in prompts]


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of each; who begins changes from round to round, so that drift favors neither."""
    calls = (first, second)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (turn % 2, 1 - turn % 2):
            times[which].append(seconds(calls[which]))
    return statistics.median(times[0]), statistics.median(times[1])


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call; a scorer that has returned numbers has waited for its device."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_gib(call: Callable[[], object], device: torch.device) -> float | None:
    """Largest memory on the GPU during the second call: the first one loads the model."""
    import torch

    call()
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return torch.cuda.max_memory_allocated(device) / 2**30
