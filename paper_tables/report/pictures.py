"""The picture grid: per run one strip of small pictures, prompts down and evaluations across, with every score."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from bench import ledger
from bench.experiments import PROXIES
from paper_tables.frame import Study
from paper_tables.report.provenance import anchor
from paper_tables.statistics.panel import scores

# A strip's pictures are no larger than this: a phone shows three of them side by side (our choice).
SIDE = 128
MEMBER = 0  # of the prompt's group, as bench.strips keeps it


def strips(study: Study, folder: Path) -> list[dict[str, Any]]:
    """Write a strip per run that kept pictures into `folder`; what the page needs to know of each.

    Returns:
        Per run: row, method, backbone, task, seed, place, file, side (pixels), updates, prompts ({"id", "text"}), and
        scores[prompt][update], a scorer's name to the score of that picture, or of its prompt's set of pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frame, judges = scores(study), [*PROXIES, *study.golds]
    frame = frame[(frame["member"] == MEMBER) & frame["scorer"].isin(judges)]
    frame = frame.sort_values("scorer", key=lambda names: names.astype(object).map(judges.index), kind="stable")
    shown = dict(list(frame.groupby(["row", "seed"], observed=True)))
    found = (_strip(run, folder, shown.get((run.info["row"], run.info["seed"]), frame[:0])) for run in study.runs)
    return [strip for strip in found if strip]


def _strip(run: ledger.Run, folder: Path, frame: pd.DataFrame) -> dict[str, Any] | None:
    pictures = run.pictures()
    if not pictures:
        return None
    updates = sorted({picture.update for picture in pictures})
    prompts = {picture.prompt_id: picture.prompt for picture in pictures}
    rows = list(prompts)
    side = min(SIDE, pictures[0].image.width)
    sheet = Image.new("RGB", (side * len(updates), side * len(prompts)), "white")
    for picture in pictures:
        place = (side * updates.index(picture.update), side * rows.index(picture.prompt_id))
        sheet.paste(picture.image.convert("RGB").resize((side, side)), place)
    info = run.info
    name = f"{info['row']}-seed{info['seed']}.png"
    sheet.save(folder / name)
    shown = [{"id": prompt, "text": text} for prompt, text in prompts.items()]
    identity = {key: info[key] for key in ("row", "method", "backbone", "task", "seed")}
    return identity | {
        "place": anchor(info["row"]),
        "file": name,
        "side": side,
        "updates": updates,
        "prompts": shown,
        "scores": _scores(frame, rows, updates),
    }


def _scores(frame: pd.DataFrame, prompts: list[str], updates: list[int]) -> list[list[dict[str, float]]]:
    """[prompt][update] the scores of each picture; of its prompt's set where a scorer judges that."""
    mine = frame[frame["prompt"].isin(prompts)]
    found: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for prompt, update, scorer, score in mine[["prompt", "update", "scorer", "score"]].itertuples(index=False):
        found[prompt, update][scorer] = round(score, 4)
    return [[found[prompt, update] for update in updates] for prompt in prompts]


def telling(strips: list[dict[str, Any]], backbone: str, task: str, rows: set[str], golds: tuple[str, ...]) -> str:
    """The id of the prompt to begin with: where most pictures of `rows` have a higher proxy and less gold than before.

    Of equal ones that with the furthest fall of gold; without `rows`, the first prompt that the proxy judges.

    Args:
        strips: as `strips` gives them.
        rows: of that backbone and task.
    """
    mine = [strip for strip in strips if (strip["backbone"], strip["task"]) == (backbone, task)]
    base = {strip["seed"]: strip for strip in strips if (strip["backbone"], strip["task"]) == (backbone, "")}
    parted: dict[str, list[float]] = {prompt["id"]: [] for prompt in _judged(mine[0], task)}
    for strip in mine:
        if strip["row"] in rows and strip["seed"] in base:
            for prompt, (proxy, gold) in _gains(strip, base[strip["seed"]], task, golds).items():
                if proxy > 0 > gold:
                    parted.setdefault(prompt, []).append(gold)
    return max(
        parted, key=lambda prompt: (len(parted[prompt]), -sum(parted[prompt])), default=mine[0]["prompts"][0]["id"]
    )


def _judged(strip: dict[str, Any], task: str) -> list[dict[str, str]]:
    """The strip's prompts whose last picture the proxy judged."""
    scored = zip(strip["prompts"], strip["scores"], strict=True)
    return [prompt for prompt, scores in scored if task in scores[-1]]


def _gains(
    strip: dict[str, Any], base: dict[str, Any], task: str, golds: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Per prompt what the last picture has more than the base model's: of the proxy, of gold over its mean there."""
    before = {prompt["id"]: scores[0] for prompt, scores in zip(base["prompts"], base["scores"], strict=True)}
    known = [first for first in before.values() if set(golds) <= set(first)]
    means = {gold: sum(first[gold] for first in known) / len(known) for gold in golds if known}
    found = {}
    for prompt, (*_, last) in zip(strip["prompts"], strip["scores"], strict=True):
        first = before.get(prompt["id"], {})
        if {task, *golds} <= set(first) & set(last):
            gold = sum((last[gold] - first[gold]) / (means[gold] or 1) for gold in golds) / len(golds)
            found[prompt["id"]] = (last[task] - first[task], gold)
    return found
