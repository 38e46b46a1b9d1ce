"""What the first screen says of its runs: under which seeds rows stand, and which base models are not there."""

from __future__ import annotations

from typing import Any

from paper_tables.claims.evidence import training
from paper_tables.comparable import is_base, trained
from paper_tables.frame import Study
from paper_tables.report.answer import Finding
from paper_tables.statistics.coverage import coverage_at

Seeds = tuple[int, ...]
ONE_SEED = "intervals are over prompts alone and say nothing of another training run"


def listed(seeds: Seeds) -> str:
    """ "seed 0", "seeds 0, 1"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _by_row(study: Study) -> dict[str, Seeds]:
    found: dict[str, Seeds] = {}
    for run in study.runs:
        found[run.info["row"]] = (*found.get(run.info["row"], ()), int(run.info["seed"]))
    return found


def alike(study: Study) -> bool:
    """Whether every row has the same seeds."""
    return len(set(_by_row(study).values())) < 2


def in_short(study: Study) -> str:
    """The seeds of all rows; how many a row has where they differ."""
    found = _by_row(study).values()
    counts = sorted(map(len, found))
    every = listed(tuple(sorted(set().union(*found))))
    return every if alike(study) else f"{every} ({counts[0]} to {counts[-1]} a row)"


def trust(study: Study, found: list[Finding], backbones: dict[str, str]) -> str:
    """Over what the intervals of these rows are, row by row where their seeds differ, and how often they hold."""
    groups: dict[Seeds, list[str]] = {}
    for each in found:
        groups.setdefault(_seeds(study, each), []).append(f"{each.method} on {backbones[each.backbone]} {each.task}")
    if not groups:
        return ""
    main, *others = sorted(groups, key=lambda seeds: -len(groups[seeds]))
    first = f"One seed: {ONE_SEED}." if len(main) == 1 else f"Intervals are over prompts and {len(main)} seeds."
    if others:
        said = "; ".join(f"{listed(seeds)} of {', '.join(groups[seeds])}" for seeds in others)
        few = f" Where there is one seed, {ONE_SEED}." if min(map(len, groups)) == 1 else ""
        first = f"Intervals are over prompts and seeds: {listed(main)}, but {said}.{few}"
    counts = sorted({len(seeds) for seeds in groups})
    held = " and ".join(f"{100 * coverage_at(n):.0f} % with {n} seed{'s' if n > 1 else ''}" for n in counts)
    return f"{first} How far to trust them: in simulated studies, where the truth is known, they held it in {held}."


def _seeds(study: Study, found: Finding) -> Seeds:
    """The seeds behind a row's change since the base model; all of its own where there is none."""
    change = found.gold or found.proxy
    return change.of_seeds if change else _by_row(study)[found.row]


def absent_bases(study: Study, backbones: dict[str, str]) -> list[dict[str, Any]]:
    """Per backbone whose base model lacks a seed of its rows: its name, the commands that make it, the panels."""
    made = []
    for backbone in dict.fromkeys(run.info["backbone"] for run in study.runs if trained(run)):
        mine = [run for run in study.runs if run.info["backbone"] == backbone]
        have = {run.info["seed"] for run in mine if is_base(run)}
        needy = [run.info for run in mine if run.info["task"] and run.info["seed"] not in have]
        if needy:
            panels = dict.fromkeys(f"{backbones[backbone]}, {info['task']}" for info in needy)
            seeds = tuple(sorted({int(info["seed"]) for info in needy}))
            made.append({
                "name": backbones[backbone], "seeds": listed(seeds), "panels": "; ".join(panels), "some": bool(have),
                "commands": [training(study, f"{backbone}_base", seed) for seed in seeds],
            })  # fmt: skip
    return made
