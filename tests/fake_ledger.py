"""Run folders with known contents, written by the ledger's own writer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.experiments import GOLD, PROXIES, ROWS, TABLE1, Row, histogram_edges
from bench.record import Record, write_json

# Flow times of diffusers' FlowMatchEuler schedule for SD3.5, 10 steps, shift 3.
TIMES = (1, 0.96013, 0.91335, 0.85769, 0.79037, 0.70728, 0.60215, 0.46488, 0.27805, 0.00893, 0)
UPDATES = (0, 20, 40)
LATENT_ELEMENTS = 512
SAMPLES = 400  # log ratios per update and step
CLIPS = {"GRPO-Guard": 2e-6}

# What a row's scores do over training, at the last update: (proxy gain, gold gain).
GAINS = {
    "FlowGRPO": (0.35, -0.25),
    "GRPO-Guard": (0.3, 0.05),
    "DanceGRPO": (0.25, -0.1),
    "TempFlowGRPO": (0.4, -0.4),
    "Temp-Reweight": (0.38, -0.3),
    "Guard-Reweight": (0.36, -0.22),
    "Mean-revised": (0.31, -0.05),
    "RatioNorm": (0.26, 0.02),
}


def schedule() -> pd.DataFrame:
    """The nine trained SD3 steps: sigma = 0.7 sqrt(t / (1 - t)), with 1 - t guarded at t = 1."""
    time = np.array(TIMES)
    dt = time[:-1] - time[1:]
    rest = 1 - np.where(time[:-1] == 1, time[1], time[:-1])
    std = 0.7 * np.sqrt(time[:-1] / rest * dt)
    return pd.DataFrame({"step": range(10), "time": time[:-1], "dt": dt, "std": std}).head(9)


def log_ratios(row: Row, seed: int, update: int) -> np.ndarray:
    """(T, SAMPLES) off-policy Gaussians: of mean -<dmu^2>/(2 std^2), or of mean 0 for Guard."""
    steps = schedule()
    generator = np.random.default_rng([seed, update, list(ROWS).index(row.name)])
    noise = generator.standard_normal((len(steps), SAMPLES)) / math.sqrt(LATENT_ELEMENTS)
    shift = (0.05 * steps["dt"] / steps["std"]).to_numpy()[:, None]
    if row.method == "GRPO-Guard":
        return shift * steps["std"].to_numpy()[:, None] * noise
    return shift * noise - shift**2 / 2


def signs() -> np.ndarray:
    """(SAMPLES,) signs of the advantages: every third is negative."""
    return np.where(np.arange(SAMPLES) % 3 == 0, -1, 1)


def diagnostics(row: Row, seed: int, update: int, inner: int) -> dict[str, Any]:
    """One line of diagnostics.jsonl; on-policy log ratios are rounding errors of 1e-9."""
    steps = schedule()
    values = log_ratios(row, seed, update) if inner else 1e-9 * log_ratios(row, seed, update)
    guarded = row.method == "GRPO-Guard"
    scale = 1 / steps["std"] if not guarded else 1 / steps["dt"]
    wobble = 1 + 0.2 * np.sin(np.arange(len(steps)) + update)
    line: dict[str, Any] = {"update": update, "inner": inner, "steps": list(range(len(steps)))}
    line |= {key: steps[key].tolist() for key in ("time", "std", "dt")}
    line |= {"count": [SAMPLES] * len(steps), "grad_norm": (scale * steps["dt"] * wobble).tolist()}
    line |= {"log_ratio_mean": values.mean(1).tolist(), "log_ratio_std": values.std(1, ddof=1).tolist()}
    for name, sign in (("positive", 1), ("negative", -1)):
        line |= _by_sign(name, values[:, signs() == sign], CLIPS.get(row.method, 1e-4))
    return line


def write_run(
    root: Path, name: str, seed: int = 0, *, scale: str = "tiny", diagnosed: bool = True, **changes: Any
) -> Path:
    """A run folder of row `name`; `changes` override keys of run.json and of status.json."""
    row = ROWS[name]
    folder = root / name / f"seed{seed}"
    record = Record(folder)
    status = {key: changes.pop(key) for key in ("state", "update", "error") if key in changes}
    updates = UPDATES[-1] if row.recipe else 0
    write_json(folder / "run.json", _info(row, seed, scale, updates) | changes)
    record.status(status.get("state", "finished"), status.get("update", updates), updates, status.get("error"))
    for update in UPDATES if row.recipe else (0,):
        record.append("metrics", metrics(row, seed, scale, update))
    for update in UPDATES[1:] if row.recipe and diagnosed else ():
        for inner in (0, 1):
            record.append("diagnostics", diagnostics(row, seed, update + inner, inner))
    return folder


def write_study(root: Path, rows: tuple[str, ...] = tuple(TABLE1), seeds: tuple[int, ...] = (0,), **kw: Any) -> Path:
    """A folder of finished runs."""
    for name in rows:
        for seed in seeds:
            write_run(root, name, seed, **kw)
    return root


def metrics(row: Row, seed: int, scale: str, update: int) -> dict[str, Any]:
    """One line of metrics.jsonl: known scores, a seed apart by 0.01."""
    share = update / UPDATES[-1]
    proxy_gain, gold_gain = GAINS.get(row.method, (0.0, 0.0))
    line: dict[str, Any] = {"update": update, "epoch": update // 2, "loss/policy": 0.1}
    for index, name in enumerate(PROXIES):
        gain = proxy_gain if name == row.task else proxy_gain / 10
        line |= {f"proxy/{name}": 0.5 + 0.01 * seed + 0.05 * index + gain * share**0.5}
    for index, name in enumerate(GOLD[scale]):
        line |= {f"gold/{name}": (0.8 - 0.1 * index + 0.01 * seed) * (1 + gold_gain * share**2)}
    scores = [key for key in line if key.startswith(("proxy/", "gold/"))]
    return line | {f"{key}_n": 64 for key in scores} | {f"{key}_missing": 0 for key in scores}


def _info(row: Row, seed: int, scale: str, updates: int) -> dict[str, Any]:
    log_ratio = "ratio_norm" if row.method == "GRPO-Guard" else "log_r"
    recipe = {"name": row.recipe, "clip": CLIPS.get(row.method, 1e-4), "log_ratio": log_ratio}
    hashes = {"prompts": f"prompts-{row.task}", "noise": f"noise-{seed}", "evaluation": f"evaluation-{seed}"}
    hashes |= {"weights": row.backbone}
    config = {"optim": {"rate": 2e-3, "micro_batch": 48}, "sampling": {"groups": 8}, "clip_scale": 11.3}
    return {
        "run_id": f"{row.name}-seed{seed}", "row": row.name, "method": row.method, "setting": row.setting,
        "backbone": row.backbone, "task": row.task, "recipe": recipe, "seed": seed, "scale": scale, "suite":
        "test", "updates": updates, "paper_updates": row.paper_updates, "latent_elements": LATENT_ELEMENTS,
        "train_steps": 10, "hashes": hashes, "config": config,
        "definitions": {name: f"as-{name}" for name in (*PROXIES, *GOLD[scale])},
    }  # fmt: skip


def _by_sign(name: str, values: np.ndarray, clip: float) -> dict[str, list[Any]]:
    counts = [np.histogram(np.clip(step, -1, 1), histogram_edges())[0] for step in values]
    return {
        f"count_{name}": [values.shape[1]] * len(values),
        f"clip_high_{name}": (values > math.log1p(clip)).sum(1).tolist(),
        f"clip_low_{name}": (values < math.log1p(-clip)).sum(1).tolist(),
        f"log_ratio_mean_{name}": values.mean(1).tolist(),
        f"log_ratio_std_{name}": values.std(1, ddof=1).tolist(),
        f"histogram_{name}": [[[int(i), int(c[i])] for i in np.flatnonzero(c)] for c in counts],
    }
