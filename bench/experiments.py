"""The vocabulary that training and reporting share. No torch, no third-party import.

Rows of Table 1 and Table 2 of GRPO-Guard (CVPR 2026 poster), the keys under which a run writes its
metrics, and the bins of its log-ratio histograms.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a table of the paper.

    Attributes:
        name: how a person calls the row, `python -m bench.train row=NAME`.
        backbone: `sd3` (SD3.5-M) or `flux` (FLUX.1-dev).
        setting: the base method as the table abbreviates it: base, TempFG, FG, DG; of rows that the paper does not
            have, `own` for a method of one's own and `judged` for an adapter that was trained elsewhere.
        method: the method as the table prints it.
        recipe: key of `baselines.RECIPES` or `baselines.ABLATION`; empty for the base model.
        task: the proxy reward that is trained on; empty for the base model.
        paper_updates: optimizer updates in the paper ("Step"); 0 for the base model.
        clip: the row's own clip range where it differs from the recipe's, else None.
    """

    name: str
    backbone: str
    setting: str
    method: str
    recipe: str = ""
    task: str = ""
    paper_updates: int = 0
    clip: float | None = None


# flow_grpo config/grpo_guard.py:84 (pickscore_hps_sd3_ratio_norm) widens the clip range for PickScore.
GUARD_PICKSCORE_CLIP = 4e-6

TABLE1: dict[str, Row] = {
    row.name: row
    for row in (
        Row("sd3_base", "sd3", "base", "SD3.5-M"),
        Row("sd3_temp_text", "sd3", "TempFG", "TempFlowGRPO", "temp_flow_grpo", "text", 480),
        Row("sd3_flow_geneval", "sd3", "FG", "FlowGRPO", "flow_grpo", "geneval", 1860),
        Row("sd3_guard_geneval", "sd3", "FG", "GRPO-Guard", "guard_flow_grpo", "geneval", 1860),
        Row("sd3_flow_pickscore", "sd3", "FG", "FlowGRPO", "flow_grpo", "pickscore", 10200),
        Row(
            "sd3_guard_pickscore", "sd3", "FG", "GRPO-Guard", "guard_flow_grpo", "pickscore", 10200,
            clip=GUARD_PICKSCORE_CLIP,
        ),
        Row("sd3_flow_text", "sd3", "FG", "FlowGRPO", "flow_grpo", "text", 480),
        Row("sd3_guard_text", "sd3", "FG", "GRPO-Guard", "guard_flow_grpo", "text", 480),
        Row("flux_base", "flux", "base", "Flux.1-dev"),
        Row("flux_dance_geneval", "flux", "DG", "DanceGRPO", "dance_grpo", "geneval", 1260),
        Row("flux_guard_geneval", "flux", "DG", "GRPO-Guard", "guard_dance_grpo", "geneval", 1260),
        Row("flux_dance_text", "flux", "DG", "DanceGRPO", "dance_grpo", "text", 540),
        Row("flux_guard_text", "flux", "DG", "GRPO-Guard", "guard_dance_grpo", "text", 540),
    )
}  # fmt: skip

GUARD = "GRPO-Guard"  # as the table prints the method


@dataclass(frozen=True)
class Pair:
    """A method and the same method under GRPO-Guard, on one backbone and task."""

    base: Row
    guard: Row


PAIRS = tuple(
    Pair(base, guard)
    for guard in TABLE1.values()
    for base in TABLE1.values()
    if guard.method == GUARD and base.method != GUARD and (base.setting, base.task) == (guard.setting, guard.task)
)

# Table 2 and Figure 7: FlowGRPO on SD3.5-M and the text task. Its first and last line are rows of Table 1.
TABLE2: dict[str, Row] = {
    "baseline": TABLE1["sd3_flow_text"],
    "temp_reweight": Row("ablation_temp_reweight", "sd3", "FG", "Temp-Reweight", "temp_reweight", "text", 480),
    "guard_reweight": Row("ablation_guard_reweight", "sd3", "FG", "Guard-Reweight", "guard_reweight", "text", 480),
    "mean_revised": Row("ablation_mean_revised", "sd3", "FG", "Mean-revised", "mean_revised", "text", 480),
    "ratio_norm": Row("ablation_ratio_norm", "sd3", "FG", "RatioNorm", "ratio_norm", "text", 480),
    "grpo_guard": TABLE1["sd3_guard_text"],
}

# Beside Table 1, of which the paper has no number: what FlowGRPO's own KL penalty does, what the released script's bias
# over the batch does, and the other reading of the paper's weight on DanceGRPO. Budgets as the rows beside them; what
# else is theirs alone is in `protocols`.
EXTRA: dict[str, Row] = {
    row.name: row
    for row in (
        Row("sd3_flow_kl_geneval", "sd3", "FG", "FlowGRPO + KL", "flow_grpo", "geneval", 1860),
        Row("sd3_flow_kl_pickscore", "sd3", "FG", "FlowGRPO + KL", "flow_grpo", "pickscore", 10200),
        Row("sd3_flow_kl_text", "sd3", "FG", "FlowGRPO + KL", "flow_grpo", "text", 480),
        Row("sd3_guard_released_text", "sd3", "FG", "GRPO-Guard, batch mean", "guard_flow_grpo_released", "text", 480),
        Row("flux_guard_beta_text", "flux", "DG", "GRPO-Guard, beta/dt", "guard_dance_grpo_beta", "text", 540),
    )
}

# What is trained together, by the rows' names.
SUITES: dict[str, tuple[str, ...]] = {
    "table1": tuple(TABLE1),
    "ablation": tuple(row.name for row in TABLE2.values()),
    "extra": tuple(EXTRA),
}

ROWS: dict[str, Row] = TABLE1 | {row.name: row for row in TABLE2.values()} | EXTRA

# Settings of a row of a base model, and of those that are none of ROWS.
BASE, OWN, JUDGED = "base", "own", "judged"

PROXIES = ("geneval", "pickscore", "text")
GOLD = {
    "tiny": ("correctness", "cleanliness", "variety"),
    "paper": ("hpsv2", "image_reward", "unified_reward"),
}
# How the tables call a base model, by scale.
BACKBONES = {
    "tiny": {"sd3": "tiny SD3", "flux": "tiny Flux"},
    "paper": {"sd3": "SD3.5-M", "flux": "Flux.1-dev"},
}


# What pictures look like, no judgement: variety and stripes are what the paper says over-optimisation costs.
STATISTICS = ("diversity", "duplicates", "stripes", "edge_density")


def judge_names(scale: str) -> list[str]:
    """Who judges images at a scale: the proxies and the golds, in the order of the table's columns, and statistics."""
    return [*PROXIES, *GOLD[scale], *STATISTICS]


def metric_of(judge: str) -> str:
    """The key under which a run logs the judge's mean."""
    kind = "proxy" if judge in PROXIES else "picture" if judge in STATISTICS else "gold"
    return f"{kind}/{judge}"


# A log ratio's histogram: bins are equal in asinh(x / HISTOGRAM_UNIT), so that one set of edges resolves
# both 1e-7 (GRPO-Guard's noisiest step) and 1e-1 (FlowGRPO's least noisy step).
HISTOGRAM_UNIT = 1e-7
HISTOGRAM_BINS = 200
HISTOGRAM_LIMIT = 1.0


def histogram_edges() -> list[float]:
    """HISTOGRAM_BINS + 1 edges of a log-ratio histogram, symmetric about 0; values beyond go to the end bins."""
    top = math.asinh(HISTOGRAM_LIMIT / HISTOGRAM_UNIT)
    half = HISTOGRAM_BINS / 2
    return [HISTOGRAM_UNIT * math.sinh(top * (i - half) / half) for i in range(HISTOGRAM_BINS + 1)]


ALL_ROWS = "`python -m bench.suite table1 --list` lists Table 1's, as `ablation` and `extra` do theirs"


class RowError(ValueError):
    """No row has that name."""


def find_row(name: str) -> Row:
    """The row called `name`: of a table, or of a method of one's own.

    Raises:
        RowError: no such row; the message lists near names, or says what lists all.
    """
    if found := ROWS.get(name) or own_row(name):
        return found
    near = ", ".join(difflib.get_close_matches(name, ROWS, n=3))
    raise RowError(f"no row is called {name!r}; " + (f"did you mean one of: {near}?" if near else ALL_ROWS))


def own_row(name: str) -> Row | None:
    """The row BACKBONE_RECIPE_TASK of a method of one's own, stated in baselines/RECIPE.py; None for another name.

    The files of `baselines` are looked for and not read, which would load torch.
    """
    backbone, _, rest = name.partition("_")
    recipe, _, task = rest.rpartition("_")
    same = [row for row in TABLE1.values() if row.backbone == backbone]
    package = importlib.util.find_spec("baselines")
    folders = package.submodule_search_locations if package else []
    if not same or task not in PROXIES or recipe not in {module.name for module in pkgutil.iter_modules(folders)}:
        return None
    updates = next((row.paper_updates for row in same if row.task == task), 0)
    return Row(name, backbone, OWN, recipe, recipe, task, updates)


def row_of(info: Mapping[str, Any]) -> Row:
    """The row of a run by its run.json, which alone knows the rows that are none of ROWS."""
    if info["row"] in ROWS:
        return ROWS[info["row"]]
    recipe = info["recipe"].get("name", "")
    return Row(info["row"], info["backbone"], info.get("setting", ""), info["method"], recipe, info["task"])
