"""Statistics of the log ratio per denoising step, pooled over updates: the numbers of Figure 2."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.experiments import histogram_edges
from paper_tables.frame import Pair

SIGNS = ("negative", "positive")
# Figure 2's claim, stated as two tests: a shift that noise cannot make, and a mean that noise explains.
SHIFTED_SE, CENTRED_SE = 5.0, 3.0


def moments(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of the log ratio (a mean over D), pooled over updates and seeds.

    Args:
        diagnostics: lines of (update, step) with method, clip, inner, step, time, count, log_ratio_mean and
            log_ratio_std (ddof = 1; NaN for a single sample).

    Returns:
        One line per method, inner (0 on-policy, 1 off-policy) and step: time, clip, n, mean, sd (ddof = 1),
        se = sd / sqrt(n), z = mean / se. The samples are independent given the updates, so that pooling is
        exact for a mean of 0.
    """
    used = diagnostics[diagnostics["count"] > 0]
    n, mean = used["count"], used["log_ratio_mean"]
    sums = used.assign(n=n, total=n * mean, squares=(n - 1) * used["log_ratio_std"].fillna(0) ** 2 + n * mean**2)
    groups = sums.groupby(["method", "inner", "step"], sort=True)
    pooled = groups.agg(time=("time", "mean"), clip=("clip", "first"), n=("n", "sum"), total=("total", "sum"),
                        squares=("squares", "sum")).reset_index()  # fmt: skip
    pooled["mean"] = pooled["total"] / pooled["n"]
    around_mean = (pooled["squares"] - pooled["n"] * pooled["mean"] ** 2).clip(lower=0)
    pooled["sd"] = np.sqrt(around_mean / (pooled["n"] - 1).clip(lower=1))
    pooled["se"] = pooled["sd"] / np.sqrt(pooled["n"])
    pooled["z"] = pooled["mean"] / pooled["se"].where(pooled["se"] > 0)
    return pooled.drop(columns=["total", "squares"])


def histograms(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Counts of log ratios per method, half, sign, step and bin, summed over updates and seeds.

    Returns:
        One line per bin that is not empty: method, inner, sign, step, bin, left, right (log ratio), count.
    """
    columns = [f"histogram_{sign}" for sign in SIGNS]
    long = diagnostics.melt(["method", "inner", "step"], columns, "sign", "pairs").explode("pairs")
    long = long[long["pairs"].notna()].reset_index(drop=True)
    pairs = pd.DataFrame(long.pop("pairs").tolist(), columns=["bin", "count"], dtype=np.int64)
    long = long.assign(sign=long["sign"].str.removeprefix("histogram_"), bin=pairs["bin"], count=pairs["count"])
    counts = long.groupby(["method", "inner", "sign", "step", "bin"], sort=True)["count"].sum().reset_index()
    edges = np.array(histogram_edges())
    return counts.assign(left=edges[counts["bin"]], right=edges[counts["bin"] + 1])


def shown_steps(steps: pd.Index) -> list[int]:
    """Five of the trained steps, last one first: 8, 6, 4, 2, 0 as in the paper where 0 to 8 are trained."""
    trained = np.unique(steps)
    chosen = np.linspace(len(trained) - 1, 0, min(5, len(trained))).round().astype(int)
    return [int(step) for step in trained[chosen]]


def statements(frame: pd.DataFrame, pair: Pair) -> str:
    """The moments of the off-policy half step by step, and what they say about the two methods."""
    off = frame[frame["inner"] == 1]
    lines = [f"Figure 2: log ratio (mean over D) of off-policy updates, {pair.base.backbone} {pair.base.task}"]
    lines += [f"{'method':<14}{'step':>5}{'n':>9}{'mean':>13}{'SE':>11}{'mean/SE':>9}"]
    for row in off.sort_values(["method", "step"]).to_dict("records"):
        lines.append(f"{row['method']:<14}{row['step']:>5}{row['n']:>9}{row['mean']:>13.3e}{row['se']:>11.2e}"
                     f"{row['z']:>9.2f}")  # fmt: skip
    return "\n".join([*lines, _shifted(off, pair.base.method), _centred(off, pair.guard.method)])


def _shifted(off: pd.DataFrame, method: str) -> str:
    where, z = _last_step(off, method)
    return f"{where} below 0 by more than {SHIFTED_SE:g} SE: {'yes' if z < -SHIFTED_SE else 'no'} ({z:+.2f} SE)"


def _centred(off: pd.DataFrame, method: str) -> str:
    where, z = _last_step(off, method)
    return f"{where} within {CENTRED_SE:g} SE of 0: {'yes' if abs(z) <= CENTRED_SE else 'no'} ({z:+.2f} SE)"


def _last_step(off: pd.DataFrame, method: str) -> tuple[str, float]:
    row = off[off["method"] == method].nsmallest(1, "time").iloc[0]
    return f"{method}, least noisy trained step {row['step']}: mean {row['mean']:.3e},", float(row["z"])
