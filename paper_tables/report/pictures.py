"""The picture grid: per run one strip of small pictures, prompts down and evaluations across, with every score."""

from __future__ import annotations

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
    found = (_strip(study, run, folder) for run in study.runs)
    return [strip for strip in found if strip]


def _strip(study: Study, run: ledger.Run, folder: Path) -> dict[str, Any] | None:
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
        "scores": _scores(study, run, rows, updates),
    }


def _scores(study: Study, run: ledger.Run, prompts: list[str], updates: list[int]) -> list[list[dict[str, float]]]:
    """[prompt][update] the scores of each picture; of its prompt's set where a scorer judges that."""
    frame, judges = scores(study), [*PROXIES, *study.golds]
    frame = frame[(frame["row"] == run.info["row"]) & (frame["seed"] == run.info["seed"]) & (frame["member"] == MEMBER)]
    frame = frame[frame["prompt"].isin(prompts) & frame["scorer"].isin(judges)]
    found = {key: _by_scorer(part, judges) for key, part in frame.groupby(["prompt", "update"], observed=True)}
    return [[found.get((prompt, update), {}) for update in updates] for prompt in prompts]


def _by_scorer(part: pd.DataFrame, judges: list[str]) -> dict[str, float]:
    """Proxies first, then the golds."""
    found = {str(name): round(float(score), 4) for name, score in zip(part["scorer"], part["score"], strict=True)}
    return {name: found[name] for name in judges if name in found}
