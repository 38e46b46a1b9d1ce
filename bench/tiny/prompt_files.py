"""`python -m bench.tiny.prompt_files`: writes the little world's prompt files.

Three of training prompts, one for each proxy, and one of evaluation prompts, the same for every row: every family,
so that a row trained on letters is also judged on objects.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bench.tiny.grammar import Target, all_prompts, held_out

FOLDER = Path(__file__).parent / "prompts"
# Our choice: a quarter texts, every held-out one; single objects and counts have too few members to hold any out.
EVALUATION = {"single_object": 8, "counting": 12, "position": 32, "colors": 20, "text": 24}
SEED = 7


def training(family: str | None) -> list[tuple[str, Target]]:
    """The prompts of a family that are not held out; None means all of them."""
    return [(p, t) for p, t in all_prompts() if not held_out(p, t) and family in (None, t["family"])]


def evaluation() -> list[tuple[str, Target]]:
    """Evaluation prompts by category, held-out ones where the category has any."""
    rng = np.random.default_rng(SEED)
    chosen = []
    for category, count in EVALUATION.items():
        of_category = [(p, t) for p, t in all_prompts() if t["category"] == category]
        pool = [pair for pair in of_category if held_out(*pair)] or of_category
        chosen += [pool[i] for i in sorted(rng.choice(len(pool), count, replace=False))]
    return chosen


def files() -> dict[str, list[tuple[str, Target]]]:
    """Every prompt file's content by name."""
    return {
        "geneval": training("objects"),
        "pickscore": training(None),
        "text": training("text"),
        "evaluation": evaluation(),
    }


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, pairs in files().items():
        lines = [json.dumps({"prompt": prompt, "target": target}) for prompt, target in pairs]
        (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{FOLDER / name}.jsonl: {len(lines)} prompts")


if __name__ == "__main__":
    main()
