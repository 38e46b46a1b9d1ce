"""`python -m bench.doctor [overrides] [--gpus N]`: is this machine ready for a run? A line for each answer.

Overrides are those of bench.train: scale=paper, row=NAME, runs=FOLDER. Without a row: all rows of Table 1. Nothing is
downloaded, and no server is asked but those that the settings name. Exit code 1: something FAILED.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.doctor import software
from bench.doctor.finding import Check, Finding, examine, ok

if TYPE_CHECKING:
    from bench.config import Config


def load() -> Finding:
    """Whether what a run imports can be imported."""
    import bench.running  # noqa: F401

    return ok("what a run imports can be imported")


def checks(rows: Sequence[Config], gpus: int) -> Iterator[tuple[str, Check]]:
    """What is checked for rows of one scale, on so many GPUs."""
    from bench.doctor import hardware, services

    settings = rows[0]
    yield "GPU", partial(hardware.gpus, gpus)
    yield "gloo", partial(hardware.group, "gloo", "cpu")
    if gpus:
        yield "NCCL", partial(hardware.group, "nccl", "cuda")
        yield "host memory", partial(hardware.host_memory, rows, gpus)
    yield "memory", partial(hardware.memory, rows, gpus)
    yield from _files(rows)
    yield from _judges(rows[0])
    yield "tracking", partial(services.tracking, settings.tracking)
    yield "Slurm", partial(services.slurm, gpus)


def _files(rows: Sequence[Config]) -> Iterator[tuple[str, Check]]:
    from bench.doctor import files
    from bench.experiments import find_row

    runs, used = Path(rows[0].runs), {find_row(each.row).backbone: each for each in rows}
    yield "runs", partial(files.writing, runs)
    yield "disk", partial(files.disk, rows)
    for name, settings in used.items():
        if settings.weights == "published":
            yield f"weights {name}", partial(files.weights, settings.backbones[name], name, runs)
    for path in dict.fromkeys(path for settings in rows for path in _prompts(settings)):
        yield "prompts", partial(files.prompt_file, path)


def _prompts(settings: Config) -> list[Path]:
    from bench.experiments import find_row

    task, evaluation = find_row(settings.row).task, settings.evaluation
    trained = [settings.tasks[task].prompts] if task else []
    return [Path(path) for path in (*trained, evaluation.prompts, *(e.prompts for e in evaluation.proxies.values()))]


def _judges(settings: Config) -> Iterator[tuple[str, Check]]:
    from bench.doctor import services
    from bench.experiments import GOLD, PROXIES

    if settings.weights == "random":
        return
    if settings.scale == "tiny":
        yield "judges", partial(services.tiny_judges, settings)
        return
    later = settings.evaluation.later
    for name in (*PROXIES, *GOLD[settings.scale]):
        yield f"judge {name}", partial(services.judge, name, settings.judges.get(name, {}), name in later)
    for name, options in ((name, settings.judges.get(f"{name}_reward")) for name in PROXIES):
        if options:
            yield f"reward {name}", partial(services.judge, name, options, False)


def compose(overrides: Sequence[str]) -> list[Config]:
    """The rows that the overrides ask about, or all of Table 1; ends the command where they name what is not."""
    from bench.experiments import TABLE1, find_row
    from bench.plan import KNOWN_ERRORS
    from bench.suite import configure

    named = [item.removeprefix("row=") for item in overrides if item.startswith("row=")]
    others = [item for item in overrides if not item.startswith("row=")]
    try:
        return [configure(find_row(name).name, others) for name in named or TABLE1]
    except KNOWN_ERRORS as error:
        print(f"bench.doctor: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def tell(name: str, check: Check) -> bool:
    """Prints what the check finds as soon as it is found; whether it FAILED."""
    found = examine(check)
    print(f"{found.state:<8} {name:<20} {found}", flush=True)
    return found.state == "FAILED"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for bench.train: scale=paper row=NAME ...")
    parser.add_argument("--gpus", type=int, metavar="N", help="that share a run (default: 1 at scale=paper, else 0)")
    args = parser.parse_args(arguments)
    asked: list[tuple[str, Check]] = [("Python", software.python), ("packages", software.packages), ("imports", load)]
    wrong = [tell(*each) for each in asked]
    if not wrong[-1]:
        rows = compose(args.overrides)
        gpus = args.gpus if args.gpus is not None else int(rows[0].scale == "paper")
        wrong += [tell(*each) for each in checks(rows, gpus)]
    print(f"{sum(wrong)} FAILED" if any(wrong) else "ready")
    sys.exit(1 if any(wrong) else 0)


if __name__ == "__main__":
    main()
