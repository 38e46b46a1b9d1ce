"""Statistics of the log ratio per denoising step, pooled over updates: the numbers of Figure 2."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.experiments import Pair, histogram_edges

SIGNS = ("negative", "positive")
# Figure 2's claim, stated as two tests: a shift that noise cannot make, and a mean that noise explains.
SHIFTED_SE, CENTRED_SE = 5.0, 3.0


def moments(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of the log ratio (a mean over D), pooled over updates and seeds.

    Args:
        diagnostics: lines of (update, step) with method, clip, inner, step, time, count, log_ratio_mean and
            log_ratio_std (ddof = 1; NaN for a single sample); where they were recorded also sum_ratio_mean and
            sum_ratio_std, of exp(D log r), the ratio with a sum over D.

    Returns:
        One line per method, inner (0 on-policy, 1 off-policy) and step: time, clip, n, mean, sd (ddof = 1),
        se = sd / sqrt(n), z = mean / se; ratio_mean of exp(log ratio), to second order; sum_mean, sum_sd,
        sum_se of the ratio with a sum over D, NaN where one of its updates has none. The samples are independent given
        the updates, so that pooling is exact for a mean of 0.
    """
    used = diagnostics[diagnostics["count"] > 0]
    keys = ["method", "inner", "step"]
    groups = used.groupby(keys, sort=True)
    pooled = groups.agg(time=("time", "mean"), clip=("clip", "first"), n=("count", "sum"))
    pooled[["mean", "sd"]] = _pooled(used, "log_ratio", keys)
    pooled["se"] = pooled["sd"] / np.sqrt(pooled["n"])
    pooled["z"] = pooled["mean"] / pooled["se"].where(pooled["se"] > 0)
    pooled["ratio_mean"] = 1 + pooled["mean"] + (pooled["mean"] ** 2 + pooled["sd"] ** 2) / 2
    pooled[["sum_mean", "sum_sd"]] = _pooled(used, "sum_ratio", keys)
    pooled["sum_se"] = pooled["sum_sd"] / np.sqrt(pooled["n"])
    return pooled.reset_index()


def _pooled(used: pd.DataFrame, of: str, keys: list[str]) -> pd.DataFrame:
    """Mean and standard deviation (ddof = 1) of all samples of a group, from those of its updates."""
    known = used.reindex(columns=[*used.columns, *({f"{of}_mean", f"{of}_std"} - set(used.columns))])
    n, mean, variance = known["count"], known[f"{of}_mean"], known[f"{of}_std"] ** 2
    squares = (n - 1) * variance.where(n > 1, 0) + n * mean**2
    groups = known.assign(n=n, total=n * mean, squares=squares)[[*keys, "n", "total", "squares"]].groupby(keys)
    total = groups.sum().where(groups.count().eq(groups.size(), axis=0))  # one unknown makes the sum unknown
    around_mean = (total["squares"] - total["total"] ** 2 / total["n"]).clip(lower=0)
    return pd.DataFrame(
        {"mean": total["total"] / total["n"], "sd": np.sqrt(around_mean / (total["n"] - 1).clip(lower=1))}
    )


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
    methods = (pair.base.method, pair.guard.method)
    lines += [_control(frame), *(_with_a_sum(off, method) for method in methods)]
    return "\n".join([*lines, _shifted(off, pair.base.method), _centred(off, pair.guard.method)])


def _control(frame: pd.DataFrame) -> str:
    """Before any update new and old policy are one, so that whatever is there is arithmetic."""
    on = frame[frame["inner"] == 0]
    mean, sd = on["mean"].abs().max(), on["sd"].max()
    return f"Control, before any update: mean {mean:.1e}, standard deviation {sd:.1e} at most"


def _with_a_sum(off: pd.DataFrame, method: str) -> str:
    row = off[off["method"] == method].nsmallest(1, "time").iloc[0]
    found = "not recorded" if np.isnan(row["sum_mean"]) else f"{row['sum_mean']:.4f}, SE {row['sum_se']:.4f}"
    return f"{method}, step {row['step']}, mean ratio with a sum over D (1 whatever the policies are): {found}"


def _shifted(off: pd.DataFrame, method: str) -> str:
    where, z = _last_step(off, method)
    return f"{where} below 0 by more than {SHIFTED_SE:g} SE: {'yes' if z < -SHIFTED_SE else 'no'} ({z:+.2f} SE)"


def _centred(off: pd.DataFrame, method: str) -> str:
    where, z = _last_step(off, method)
    return f"{where} within {CENTRED_SE:g} SE of 0: {'yes' if abs(z) <= CENTRED_SE else 'no'} ({z:+.2f} SE)"


def _last_step(off: pd.DataFrame, method: str) -> tuple[str, float]:
    row = off[off["method"] == method].nsmallest(1, "time").iloc[0]
    return f"{method}, least noisy trained step {row['step']}: mean {row['mean']:.3e},", float(row["z"])
