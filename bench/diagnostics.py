"""What an update says about itself, per trained step: log ratios, clipping, gradient norms. No state, no files."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from baselines.recipe import Recipe
from bench.experiments import histogram_edges
from bench.update import StepRecord

_EDGES = torch.tensor(histogram_edges(), dtype=torch.float64)


def _moments(values: Tensor) -> tuple[float, float]:
    values = values.double()
    if len(values) == 0:
        return math.nan, math.nan
    return values.mean().item(), values.std().item() if len(values) > 1 else math.nan


def _histogram(values: Tensor) -> list[list[int]]:
    bins = (torch.bucketize(values.double(), _EDGES, right=True) - 1).clamp(0, len(_EDGES) - 2)
    counts = torch.bincount(bins, minlength=1)
    return [[int(i), int(counts[i])] for i in counts.nonzero().flatten()]


def _by_sign(record: StepRecord, sign: str, low: float, high: float) -> dict[str, Any]:
    values = record.log_ratio[record.advantage > 0 if sign == "positive" else record.advantage < 0]
    mean, std = _moments(values)
    return {
        f"count_{sign}": len(values),
        f"clip_high_{sign}": int((values > high).sum()),
        f"clip_low_{sign}": int((values < low).sum()),
        f"log_ratio_mean_{sign}": mean,
        f"log_ratio_std_{sign}": std,
        f"histogram_{sign}": _histogram(values),
    }


def describe(records: list[StepRecord], recipe: Recipe, times: Tensor) -> dict[str, list[Any]]:
    """Lists over the trained steps, the line of diagnostics.jsonl (its keys are explained in docs of the ledger).

    `log_ratio_mean` and `_std` (ddof 1) are over all transitions of the step; `clip_high_positive` counts those with
    a positive advantage whose ratio is above 1 + clip, and so on; `grad_norm` is the step's own, before any clipping.
    `raw_log_ratio_mean` is of log r before what the recipe makes of it, a mean over the latent's D elements as all log
    ratios here; `sum_ratio_mean` and `_std` are of exp(D log r), the ratio of the densities, whose expectation is 1.
    """
    low, high = math.log1p(-recipe.clip), math.log1p(recipe.clip)
    rows = []
    for record in records:
        step = recipe.old_step(torch.zeros(1, 1), times.cpu(), record.step)
        mean, std = _moments(record.log_ratio)
        sum_mean, sum_std = _moments((record.plain.double() * record.elements).exp())
        rows.append(
            {
                "steps": record.step,
                "time": step.time.item(),
                "std": step.std.item(),
                "dt": step.dt.item(),
                "count": len(record.log_ratio),
                "log_ratio_mean": mean,
                "log_ratio_std": std,
                "raw_log_ratio_mean": _moments(record.plain)[0],
                "sum_ratio_mean": sum_mean,
                "sum_ratio_std": sum_std,
                "grad_norm": record.grad_norm,
                **_by_sign(record, "positive", low, high),
                **_by_sign(record, "negative", low, high),
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


def summary(records: list[StepRecord], lines: dict[str, list[Any]]) -> dict[str, float]:
    """Of the whole update: mean loss, share of transitions outside the clip range, and the KL where it is penalised."""
    count = sum(lines["count"])
    outside = sum(sum(lines[f"clip_{side}_{sign}"]) for side in ("high", "low") for sign in ("positive", "negative"))
    loss = sum(record.loss * len(record.log_ratio) for record in records) / count
    kl = sum(record.kl * len(record.log_ratio) for record in records) / count
    return {"loss/policy": loss, "clip/share": outside / count} | ({} if math.isnan(kl) else {"loss/kl": kl})
