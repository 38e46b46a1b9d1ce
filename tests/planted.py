"""Studies whose rows follow a planted course, and what a claim says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fake_scores import GOLDS, Scores, memory_study

from bench.experiments import PAIRS
from paper_tables.claims.evidence import Evidence
from paper_tables.claims.register import Claim
from paper_tables.claims.verdict import Part, Verdict
from paper_tables.frame import Study

PROMPTS, MEMBERS = 32, 1
UPDATES = np.array([0, 20, 40, 60, 80])
ENDS, ALL = (0, 4), (0, 1, 2, 3, 4)  # of UPDATES
Course = Mapping[str, Any]  # by scorer, "gold" and "proxy" for all of them: (U,) or a number
BASE = 0.6
SEEDS = (0, 1, 2)


def planted(
    rows: Mapping[str, Course], seeds: tuple[int, ...] = SEEDS, noise: float = 0.02, points: tuple[int, ...] = ENDS
) -> Study:
    """A study whose rows follow a course in every scorer; prompts are as hard for all, seeds move rows a little."""
    generator, runs = np.random.default_rng(1), {}
    hard = generator.normal(0, 0.1, (PROMPTS, 1))
    for seed in seeds:
        for row, given in rows.items():
            moved = generator.normal(0, noise / 4)
            runs[row, seed] = {
                int(UPDATES[index]): _scores(generator, given, index, hard + moved * bool(index), noise)
                for index in (points if not row.endswith("_base") else (0,))
            }
    return memory_study(runs)


def _scores(generator: np.random.Generator, given: Course, index: int, hard: np.ndarray, noise: float) -> Scores:
    courses = {gold: given.get("gold", BASE) for gold in GOLDS}
    courses |= {proxy: given.get("proxy", BASE) for proxy in ("geneval", "pickscore", "text")}
    courses |= {name: value for name, value in given.items() if name not in ("gold", "proxy")}
    levels = {name: np.broadcast_to(course, len(UPDATES))[index] for name, course in courses.items()}
    return {
        name: level + hard + generator.normal(0, noise, (PROMPTS, MEMBERS)) for name, level in levels.items()
    }  # fmt: skip


def judged(claim: Claim, study: Study) -> Verdict:
    return claim.judge(Evidence(study))


def of_text(claim: Claim, study: Study) -> Part:
    """The part of the pair on SD3.5-M and text, which is the only one in the study."""
    return next(part for part in judged(claim, study).parts if part.name.startswith("sd3_guard_text"))


def pairs(flow: Course, guard: Course) -> dict[str, Course]:
    rows: dict[str, Course] = {"sd3_base": {}, "flux_base": {}}
    return rows | {pair.base.name: flow for pair in PAIRS} | {pair.guard.name: guard for pair in PAIRS}


def text(points: tuple[int, ...] = ALL, **rows: Course) -> Study:
    named = {"flow": "sd3_flow_text", "guard": "sd3_guard_text", "temp": "sd3_temp_text", "mean":
             "ablation_mean_revised", "norm": "ablation_ratio_norm", "weight": "ablation_temp_reweight",
             "kl": "sd3_flow_kl_text"}  # fmt: skip
    return planted({"sd3_base": {}} | {named[row]: given for row, given in rows.items()}, noise=0.01, points=points)


FALLS, STAYS = {"gold": BASE - 0.1 * (UPDATES / 80) ** 2}, {"gold": BASE}
RISES = {"proxy": BASE + 0.3 * (UPDATES / 80)}
