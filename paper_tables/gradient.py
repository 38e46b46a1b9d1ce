"""Gradient norm per denoising step: the numbers of Figure 3."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench.experiments import Pair


def beta(steps: pd.DataFrame) -> pd.Series:
    """-d mean / (dt d velocity) = 1 + sigma^2 (1 - time) / (2 time): the SDE step's drift, Table 2's beta."""
    sigma_squared = steps["std"] ** 2 / steps["dt"]
    return 1 + sigma_squared * (1 - steps["time"]) / (2 * steps["time"])


def plain_scale(steps: pd.DataFrame) -> pd.Series:
    """What the schedule alone does to d log r / d velocity at ratio 1: beta dt / std (Table 2, Baseline)."""
    return beta(steps) * steps["dt"] / steps["std"]


def guard_scale(steps: pd.DataFrame) -> pd.Series:
    """The same under GRPO-Guard: RatioNorm's std and the step weight 1/dt leave beta (Table 2)."""
    return beta(steps)


def per_step(diagnostics: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Gradient norm of each step, averaged over updates and seeds, and the schedule's prediction.

    Args:
        diagnostics: lines of (update, step) of the pair's runs, with inner, time, std, dt, count and
        grad_norm (norm
            of that step's loss gradient alone, before any clipping of the gradient).

    Returns:
        One line per method, half (all, on-policy, off-policy) and step: grad_norm, updates, and grad_norm and
        schedule each divided by its smallest value over the steps, as `relative` and `schedule`.
    """
    used = diagnostics[diagnostics["count"] > 0]
    parts = []
    for half, inner in (("all", [0, 1]), ("on-policy", [0]), ("off-policy", [1])):
        for method, scale in _scales(pair).items():
            part = used[used["inner"].isin(inner) & (used["method"] == method)]
            parts += [_steps(part, scale).assign(method=method, half=half)] if len(part) else []
    return pd.concat(parts, ignore_index=True)


def imbalance(steps: pd.DataFrame, column: str = "grad_norm") -> float:
    """Largest over smallest of `column` over the steps."""
    return float(steps[column].max() / steps[column].min())


def statements(frame: pd.DataFrame, pair: Pair) -> str:
    """The gradient norms step by step and their max/min, measured and by the schedule alone."""
    lines = [f"Figure 3: gradient norm per step, mean over updates, {pair.base.backbone} {pair.base.task}"]
    whole = frame[frame["half"] == "all"].pivot(index="step", columns="method", values="grad_norm")
    lines.append(whole[list(_scales(pair))].to_string(float_format=lambda value: f"{value:.3e}"))
    for method in _scales(pair):
        lines.append(_imbalances(frame[frame["method"] == method], method))
    measured = {m: imbalance(frame[(frame["method"] == m) & (frame["half"] == "all")]) for m in _scales(pair)}
    less = "yes" if measured[pair.guard.method] < measured[pair.base.method] else "no"
    return "\n".join([*lines, f"{pair.guard.method} spreads less over the steps than {pair.base.method}: {less}"])


def _scales(pair: Pair) -> dict[str, Callable[[pd.DataFrame], pd.Series]]:
    return {pair.base.method: plain_scale, pair.guard.method: guard_scale}


def _steps(part: pd.DataFrame, scale: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    groups = part.groupby("step", sort=True)
    frame = groups[["time", "std", "dt", "grad_norm"]].mean().assign(updates=groups["update"].nunique()).reset_index()
    schedule = scale(frame)
    lowest = frame["grad_norm"].min()
    relative = frame["grad_norm"] / (lowest if lowest > 0 else np.nan)
    return frame.assign(relative=relative, schedule=schedule / schedule.min())


def _imbalances(frame: pd.DataFrame, method: str) -> str:
    halves = [f"{imbalance(part):.3g}x {half}" for half, part in frame.groupby("half", sort=False)]
    schedule = imbalance(frame[frame["half"] == "all"], "schedule")
    return f"{method}: max/min {', '.join(halves)}; schedule alone {schedule:.3g}x"
