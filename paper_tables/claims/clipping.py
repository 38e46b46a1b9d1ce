"""Claims about clipping (Figures 2 and 12) and about the gradient per step (Figure 3), from every optimizer update."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.experiments import Pair
from paper_tables.claims.evidence import Array, Evidence, over_updates, sums
from paper_tables.claims.method import of_pairs
from paper_tables.claims.register import claim
from paper_tables.claims.verdict import Band, Effect, Part, inside, larger, missing

SIDES, SIGNS = ("high", "low"), ("positive", "negative")
# Figure 2b, read: at FlowGRPO's step 8 the ratio is above 1 + clip in 0.7 %, at step 6 in 0.1 %, else nowhere.
NEVER = 0.01
# Figure 3's caption: about 20 for FlowGRPO, about 2.5 for GRPO-Guard.
PAPER_IMBALANCES = 20 / 2.5


@claim("C5", "Figures 2 and 12")
def clipping_acts_on_both_sides(evidence: Evidence) -> tuple[Part, ...]:
    """FlowGRPO's upper clip never acts on positive advantages, while GRPO-Guard's clips act on both sides.

    Test: off-policy updates, share of transitions with a positive advantage above 1 + clip and with a negative one
    below 1 - clip, where PPO's clip stops the gradient: for FlowGRPO the first is at most 1 % at every step, for
    GRPO-Guard both are above 1 % over all steps.
    """
    return of_pairs(evidence, lambda pair: (_never(evidence, pair.base.name), _both(evidence, pair.guard.name)))


def _never(evidence: Evidence, row: str) -> Part:
    """The step with the highest share; the interval holds for all steps together."""
    shares = _share(sums(evidence.updates(row), "clip_high_positive", "count_positive"))
    worst = int(shares[0].argmax())
    found = over_updates(shares[:, worst], evidence.updates(row), of=shares.shape[1])
    band = Band(0.0, NEVER, "the paper's figure has 0.7 % at most")
    return inside(f"{row}, advantage > 0 above 1 + clip, step {worst}", found, band, evidence.ids(row))


def _both(evidence: Evidence, row: str) -> Part:
    """The less active of the two sides, over all steps."""
    columns = ("clip_high_positive", "count_positive", "clip_low_negative", "count_negative")
    total = sums(evidence.updates(row), *columns).sum(-1)
    sides = np.stack([_share(total[:, :2]), _share(total[:, 2:])])
    less = int(sides[:, 0].argmin())
    name = f"{row}, {('advantage > 0 above 1 + clip', 'advantage < 0 below 1 - clip')[less]}, all steps"
    band = Band(NEVER, math.inf, "more than what counts as never")
    return inside(name, over_updates(sides[less], evidence.updates(row)), band, evidence.ids(row))


def _share(counts: Array) -> Array:
    """Part over whole, (draws, 2, ...); 0 where there is no whole."""
    part, whole = counts[:, 0], counts[:, 1]
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def activity(evidence: Evidence) -> pd.DataFrame:
    """Share of off-policy transitions beyond the clip, by row, step, sign of the advantage and side.

    Columns: row, method, step, sign, side, acts (whether PPO's clip stops the gradient there), n, share.
    """
    rows = dict.fromkeys(run.info["row"] for run in evidence.study.runs)
    found = [_activity(evidence, row) for row in rows if evidence.diagnosed(row)]
    columns = ["row", "method", "step", "sign", "side", "acts", "n", "share"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _activity(evidence: Evidence, row: str) -> pd.DataFrame:
    frame = evidence.updates(row)
    keys = [f"clip_{side}_{sign}" for side in SIDES for sign in SIGNS]
    total = frame.groupby("step")[[*keys, *(f"count_{sign}" for sign in SIGNS)]].sum()
    lines = [
        pd.DataFrame({
            "row": row, "method": frame["method"].iloc[0], "step": total.index, "sign": sign, "side": side,
            "acts": (side, sign) in (("high", "positive"), ("low", "negative")), "n": total[f"count_{sign}"],
            "share": total[f"clip_{side}_{sign}"] / total[f"count_{sign}"].where(total[f"count_{sign}"] > 0),
        })
        for side in SIDES
        for sign in SIGNS
    ]  # fmt: skip
    return pd.concat(lines, ignore_index=True)


@claim("C6", "Figure 3")
def gradient_falls_evenly_on_the_steps(evidence: Evidence) -> tuple[Part, ...]:
    """The gradient falls far less unevenly on the steps under GRPO-Guard: about 2.5x for about 20x.

    Test: norm of each step's own gradient, mean over all updates, largest over smallest; the base method's divided by
    GRPO-Guard's: above 1. The schedule alone gives 26.1 and 1.25 (SD3.5-M, 10 steps, shift 3).
    """
    return of_pairs(evidence, lambda pair: (_imbalances(evidence, pair),))


def _imbalances(evidence: Evidence, pair: Pair) -> Part:
    rows = (pair.base.name, pair.guard.name)
    ids = evidence.ids(*rows)
    draws = [norms(evidence, row) for row in rows]
    if not all(np.isfinite(each).all() and (each > 0).all() for each in draws):
        return missing(
            " over ".join(rows), "the gradient of single steps was not recorded: train with optim.stacked_steps=1"
        )
    base, guard = (each.max(-1) / each.min(-1) for each in draws)
    effect = Effect(PAPER_IMBALANCES, "the paper has")
    name = f"largest gradient over smallest, {rows[0]} {base[0]:.3g} over {rows[1]} {guard[0]:.3g}"
    found = over_updates(base / guard, *(evidence.updates(row, inner=None) for row in rows))
    return larger(name, found, effect, ids, none=1.0)


def norms(evidence: Evidence, row: str) -> Array:
    """Mean gradient norm per step, (1 + RESAMPLES, T); NaN where a step's own is not recorded."""
    frame = evidence.updates(row, inner=None)
    frame = frame.assign(recorded=frame["grad_norm"].notna().astype(float))
    total, recorded = np.moveaxis(sums(frame, "grad_norm", "recorded"), 1, 0)
    return np.asarray(total / np.where(recorded > 0, recorded, np.nan))
