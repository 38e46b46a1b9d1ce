"""Writes what the gold oracles know of the renderer: `python -m bench.tiny.statistics` (about 20 s, deterministic)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import gold_metrics
from bench.tiny import grammar, render
from gold_metrics.cleanliness import render_error
from gold_metrics.tiny_world import DATA, World
from gold_metrics.variety import ASPECTS, differences

SHIPPED = Path(gold_metrics.__file__).parent / "data" / DATA
SEED = 20251022
PROMPTS = 24  # per category, evenly spaced in the grammar's order
PICTURES = 64  # per prompt
SETS = 40  # random subsets of a prompt's pictures, for each set size
SET_SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)

# Our choices: real pictures shall be free of charge; three real sets in four reach their reference, and what is missing
# to it in the others is little.
ERROR_QUANTILE = 0.99
SPREAD_QUANTILE = 0.25

# Our choice: two or three real pictures may well be alike; without a floor their reference would vanish.
SPREAD_FLOOR = 0.5


def constants() -> dict[str, Any]:
    """The renderer's colors and glyphs, as `gold_metrics.tiny_world.World.from_data` reads them."""
    return {
        "source": "written by `python -m bench.tiny.statistics`",
        "palette": render.PALETTE,
        "backgrounds": render.BACKGROUNDS,
        "ink": render.INK,
        "unit_sizes": {shape: unit_size(shape) for shape in render.DISTANCE},
        "glyph_scale": render.GLYPH_SCALE,
        "glyphs": {letter: render.GLYPHS[letter].split() for letter in grammar.ALPHABET},
    }


def unit_size(shape: str) -> float:
    """Square root of the area of a shape of radius 1, from the largest one that the renderer paints."""
    radius = render.RADIUS[1]
    cover = np.clip(0.5 - render.DISTANCE[shape](render.SIDE / 2, render.SIDE / 2, radius), 0, 1)
    return round(float(np.sqrt(cover.sum())) / radius, 4)


def by_category() -> dict[str, list[grammar.Target]]:
    """`PROMPTS` targets of each category, or all if it has fewer."""
    targets: dict[str, list[grammar.Target]] = {}
    for _, target in grammar.all_prompts():
        targets.setdefault(target["category"], []).append(target)
    return {category: _spaced(members) for category, members in targets.items()}


def _spaced(members: list[grammar.Target]) -> list[grammar.Target]:
    places = np.linspace(0, len(members) - 1, min(PROMPTS, len(members))).round().astype(int)
    return [members[place] for place in places]


def measure(targets: Sequence[grammar.Target], world: World, seed: Sequence[int]) -> tuple[list[float], dict[str, Any]]:
    """Errors of the pictures and spread of sets of them, for one category.

    Returns:
        render_error of each picture; per aspect the reference spread for each of `SET_SIZES`.
    """
    rng = np.random.default_rng(seed)
    errors: list[float] = []
    spreads: dict[str, list[list[float]]] = {aspect: [[] for _ in SET_SIZES] for aspect in ASPECTS}
    for target in targets:
        pictures = [render.render(target, rng) for _ in range(PICTURES)]
        errors += [render_error(picture, world) for picture in pictures]
        apart = differences(pictures, target, world)
        for column, size in enumerate(SET_SIZES):
            for _ in range(SETS):
                chosen = rng.permutation(PICTURES)[:size]
                for aspect in ASPECTS:
                    # The diagonal is 0, so that the mean over pairs is the sum over size * (size - 1).
                    total = apart[aspect][np.ix_(chosen, chosen)].sum()
                    spreads[aspect][column].append(float(total) / (size * (size - 1)))
    return errors, {aspect: [_reference(spread) for spread in spreads[aspect]] for aspect in ASPECTS}


def _reference(spread: Sequence[float]) -> float:
    low = float(np.quantile(spread, SPREAD_QUANTILE))
    return round(max(low, SPREAD_FLOOR * float(np.mean(spread))), 4)


def statistics() -> dict[str, Any]:
    """The data file's content: the renderer's constants and what its pictures measure."""
    data = constants()
    world = World.from_data(data)
    errors: list[float] = []
    spread: dict[str, Any] = {"set_sizes": SET_SIZES}
    for index, (category, targets) in enumerate(tqdm(by_category().items(), "measuring the renderer", leave=False)):
        own, spread[category] = measure(targets, world, (SEED, index))
        errors += own
    free = round(float(np.quantile(errors, ERROR_QUANTILE)), 4)
    return {**data, "statistics": {"render_error": free, "spread": spread}}


def write(path: Path) -> None:
    """Measures the renderer and writes the data file, replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(statistics(), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiny.statistics", description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="default: where the oracles read it")
    path = parser.parse_args().out
    write(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
