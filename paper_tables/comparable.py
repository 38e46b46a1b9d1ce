"""Which runs may stand in one table: those that differ in their recipe and in what is their row's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from bench import ledger
from bench.experiments import JUDGED
from bench.protocols import own

# Settings in which runs that are compared may differ: who they are, where they were made, and paths, since what is
# behind a path or a judge is in the hashes. A method is its recipe and nothing else.
FREE = {"row", "seed", "updates", "force", "runs", "suite", "tracking", "checkpoint_every", "micro_batch"}
FREE |= {"prompts", "weights", "judges", "embeddings", "later"}
OWN = "the row's own"
JUDGING = (("evaluation", ["steps"]), ("evaluation", ["images_per_prompt"]))


class StudyError(ValueError):
    """The runs found cannot be put into one table; the message says which and what to do."""


def label(run: ledger.Run) -> str:
    """How a person calls a run."""
    return f"{run.info['row']} seed {run.info['seed']}"


def trained(run: ledger.Run) -> bool:
    """Whether it was trained here: neither a base model nor an adapter that was only judged."""
    return bool(run.info["task"]) and run.info.get("setting") != JUDGED


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


def check_settings(runs: tuple[ledger.Run, ...]) -> None:
    """Refuse runs that are compared with each other and differ in more than their recipe."""
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
        for key, value in _shared_settings(run):
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
    """The settings that count for the run: of its own backbone, and for a base model only how it is judged."""
    for key, value in run.settings.items():
        section, *rest = key.split(".")
        other = section == "tasks" or (section == "backbones" and rest[0] != run.info["backbone"])
        if not other and not FREE & {section, *rest} and (trained(run) or (section, rest[:1]) in JUDGING):
            yield key, value
