"""A study for the report's tests: planted answers, two seeds, pictures, and words that try to be markup."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fake_ledger import diagnostics
from fake_scores import Scores, write_scored
from PIL import Image

from bench.experiments import ROWS
from bench.record import Record

UPDATES, SEEDS, PROMPTS, MEMBERS = (0, 10, 20), (0, 1), 16, 2
HOSTILE = "<script>window.taken = true</script>"
CONFIG = {
    "optim": {"rate": 2e-3},
    "sampling": {"groups": 8},
    "note": f"</pre></script>{HOSTILE}<img src=x onerror=alert(1)>",
}
# (row, what its own proxy and its golds gain from update 0 to the last)
GAINS: Mapping[str, tuple[float, float]] = {
    "sd3_base": (0.0, 0.0),
    "sd3_flow_text": (0.3, -0.2),
    "sd3_guard_text": (0.2, 0.2),
    "flux_base": (0.0, 0.0),
    "flux_dance_geneval": (0.0, 0.0),
}
COST = {"images": 96.0, "rollout_forwards": 960.0, "trained_transitions": 864.0, "decodes": 96.0}
SIDE = 8


def write(root: Path) -> Path:
    """Run folders of the rows of GAINS under every seed."""
    for name, gains in GAINS.items():
        for seed in SEEDS:
            row = ROWS[name]
            at = {
                update: scores(name, seed, gains, update / UPDATES[-1]) for update in (UPDATES if row.recipe else (0,))
            }
            folder = write_scored(root, name, at, seed, config=CONFIG, cost=COST)
            record = Record(folder)
            for update in UPDATES[1:] if row.recipe else ():
                for inner in (0, 1):
                    record.append("diagnostics", diagnostics(row, seed, update + inner, inner))
            paint(folder, name, tuple(at))
    return root


def scores(name: str, seed: int, gains: tuple[float, float], share: float) -> Scores:
    """Scores of every prompt and image: the same noise in every row of a seed, and the row's gains."""
    draw = np.random.default_rng([seed, len(ROWS[name].backbone)])
    level = 0.6 + 0.05 * draw.standard_normal((PROMPTS, 1)) + 0.01 * draw.standard_normal((PROMPTS, MEMBERS))
    wobble = 0.02 * np.random.default_rng([seed, sorted(GAINS).index(name)]).standard_normal((PROMPTS, MEMBERS))
    drawn = level + share * wobble
    proxies = {task: drawn + share * gains[0] * (task == ROWS[name].task) for task in ("geneval", "pickscore", "text")}
    golds = dict.fromkeys(("correctness", "cleanliness", "variety"), drawn + share * gains[1] * 0.6)
    return proxies | golds


def paint(folder: Path, name: str, updates: tuple[int, ...]) -> None:
    """An image set per update: one colour a row, brighter with training; the prompts are hostile."""
    for update in updates:
        images = folder / "images" / f"update-{update:06d}"
        images.mkdir(parents=True)
        shade = (40 * sorted(GAINS).index(name), 10 * update, 90)
        entries = []
        for prompt in range(3):
            file = f"p{prompt:03d}-0.png"
            Image.new("RGB", (SIDE, SIDE), (*shade[:2], shade[2] + 50 * prompt)).save(images / file)
            entries.append({"file": file, "prompt_id": f"p{prompt:03d}", "prompt": f"{prompt} {HOSTILE}", "seed": 0})
        (images / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
