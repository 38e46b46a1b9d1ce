"""Which runs may stand in one table: those that differ in their recipe and in what is their row's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from bench import ledger
from bench.experiments import JUDGED, ROWS
from bench.protocols import own

# Settings in which runs that are compared may differ: who they are, where they were made, and paths, since what is
# behind a path or a judge is in the hashes. A method is its recipe and nothing else.
FREE = {"row", "seed", "updates", "force", "runs", "suite", "tracking", "checkpoint_every", "micro_batch"}
FREE |= {"prompts", "weights", "judges", "embeddings", "later"}
OWN = "the row's own"
# How images are painted and judged. Not a backbone's noise level: evaluations are deterministic.
JUDGING = {"tf32", "evaluation.steps", "evaluation.images_per_prompt", "evaluation.proxies"}
PAINTING = {"guidance", "resolution", "text_tokens", "dtype"}
# Our choice: what other hardware does to the images is noise, within four standard errors of the paired difference, or
# at most a twentieth of the spread over prompts, half a standard error of a mean over 96.
ERRORS, SPREADS = 4, 0.05


class StudyError(ValueError):
    """The runs found cannot be put into one table; the message says which and what to do."""


def label(run: ledger.Run) -> str:
    """How a person calls a run."""
    return f"{run.info['row']} seed {run.info['seed']}"


def trained(run: ledger.Run) -> bool:
    """Whether it was trained here: neither a base model nor an adapter that was only judged."""
    return bool(run.info["task"]) and run.info.get("setting") != JUDGED


def is_base(run: ledger.Run) -> bool:
    """Whether it is a base model's own run, by which others are normalised."""
    return run.info["row"] in ROWS and not ROWS[run.info["row"]].recipe


def check_weights(runs: tuple[ledger.Run, ...]) -> None:
    random = [label(run) for run in runs if run.info.get("weights") == "random"]
    if random:
        raise StudyError(
            f"runs with random weights measure time and memory, their scores mean nothing: {', '.join(random)}; "
            "move them to another folder"
        )


def common(runs: tuple[ledger.Run, ...], key: str, known: tuple[str, ...]) -> str:
    """The `key` of run.json that all runs share; a record from before there were protocols is "paired"."""
    values = {run.info.get(key, "paired"): label(run) for run in runs}
    if len(values) > 1 or not set(values) <= set(known):
        found = ", ".join(f"{value} ({example})" for value, example in sorted(values.items()))
        raise StudyError(
            f"wanted runs of one {key} ({' or '.join(known)}), found {found}: keep {key}s in folders apart"
        )
    return str(next(iter(values)))


def check_settings(runs: tuple[ledger.Run, ...], varied: Collection[str] = ()) -> None:
    """Refuse runs that are compared with each other and differ in more than their recipe and the `varied` settings."""
    seen: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        backbone, task, seed, hashes = (run.info[key] for key in ("backbone", "task", "seed", "hashes"))
        where, judged = f"backbone {backbone}", f"backbone {backbone}, seed {seed}"
        for key in ("weights", "judges"):
            seen[key, where][hashes.get(key)].append(label(run))
        for key in ("evaluation", "noise"):
            seen[key, judged][hashes.get(key)].append(label(run))
        if trained(run):
            seen["prompts", f"{judged}, task {task}"][hashes.get("prompts")].append(label(run))
        mine = own(run.info["row"], run.info.get("protocol", "paired"))
        for key, value in (each for each in _shared_settings(run) if each[0] not in varied):
            # Rows with a setting of their own are compared with each other: all as the protocol says, or changed alike.
            shown = OWN if key in mine and value == mine[key] else value
            seen[key, f"{where} with their own" if key in mine else where][str(shown)].append(label(run))
    for (key, where), by_hash in seen.items():
        if len(by_hash) > 1:
            found = "; ".join(f"{str(value)[:12]}: {', '.join(names)}" for value, names in by_hash.items())
            raise StudyError(
                f"runs of {where} differ in {key} and cannot be compared ({found}): repeat the odd ones with FORCE=1"
            )


def _shared_settings(run: ledger.Run) -> Iterator[tuple[str, Any]]:
    """The settings that count for the run: of its own backbone, and for one not trained here only how it is judged."""
    for key, value in run.settings.items():
        section, *rest = key.split(".")
        other = section == "tasks" or (section == "backbones" and rest[0] != run.info["backbone"])
        if not other and not FREE & {section, *rest} and (trained(run) or _judging(key)):
            yield key, value


def _judging(key: str) -> bool:
    section, *rest = key.split(".")
    return (section == "backbones" and rest[1] in PAINTING) or ".".join([section, *rest[:1]]) in JUDGING


def check_starts(runs: tuple[ledger.Run, ...]) -> None:
    """Refuse a run whose images at update 0 are not those of its base model, up to the arithmetic of other hardware."""
    bases = {(run.info["backbone"], run.info["seed"]): (run, _start(run)) for run in runs if _is_base(run)}
    for run in runs:
        base, start = bases.get((run.info["backbone"], run.info["seed"]), (run, {}))
        if base is run or all(start[key] == value for key, value in _start(run).items() if key in start):
            continue  # to the bit, as on one machine
        if apart := list(_apart(run, base)):
            raise StudyError(
                f"{label(run)} does not begin at its base model, {label(base)}: {', '.join(apart[:3])}; they were made "
                "by other code or packages: repeat the odd one with FORCE=1"
            )


def _is_base(run: ledger.Run) -> bool:
    return not run.info["task"] and run.info.get("setting") != JUDGED


def _start(run: ledger.Run) -> dict[str, float]:
    """The mean scores at update 0; none where it was not evaluated."""
    first = pd.DataFrame([line for line in run.lines() if line["update"] == 0]).mean(numeric_only=True).dropna()
    return {str(key): float(value) for key, value in first.items() if str(key).startswith(("gold/", "proxy/"))}


def _apart(run: ledger.Run, base: ledger.Run) -> Iterator[str]:
    """The scorers by which the two painted other images at update 0, of those that have scored both."""
    one, two = (_first_scores(each) for each in (run, base))
    both = pd.concat([one, two], axis=1, keys=["run", "base"], join="inner").dropna()
    if both.empty:
        return
    means = both.groupby(["scorer", "prompt_id"]).mean()
    for scorer, of in means.groupby("scorer"):
        difference = of["run"] - of["base"]
        allowed = max(ERRORS * difference.std() / len(of) ** 0.5, SPREADS * of["base"].std())
        if abs(difference.mean()) > allowed:
            yield f"{scorer} {of['run'].mean():.4g} and not {of['base'].mean():.4g}"


def _first_scores(run: ledger.Run) -> pd.Series:
    """The scores at update 0 by scorer, own set, prompt and member; none where the run has no score files."""
    frame, keys = run.scores(), ["scorer", "own", "prompt_id", "seed"]
    if frame.empty:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[]] * len(keys), names=keys))
    scores: pd.Series = frame[frame["update"] == 0].groupby(keys)["score"].mean()
    return scores
