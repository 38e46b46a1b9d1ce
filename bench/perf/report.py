"""The comparison with the official code, case by case, as text and as data, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from bench.architectures import parameters
from bench.perf.peer import Peer
from bench.perf.side_by_side import CASES, STACKS, Agreement, Ratio, agreement, speed, subject_of, train
from bench.perf.subjects import Subject
from bench.ranks import Ranks

TOP = 10  # operators of a profile


def compare(peer: Peer, repeats: int, only: str = "") -> list[dict[str, Any]]:
    """Measures and prints every case with `only` in its name; the same as data."""
    print("\nbeside the official flow_grpo: least processor seconds; theirs / ours above 1: ours is faster")
    found = []
    for case in (case for case in CASES if only in case.name):
        subject = subject_of(case)
        agreed, ratios = agreement(peer, subject), speed(peer, subject, repeats)
        network = subject.policy.transformer
        sizes = {"parameters": parameters(network), "trainable": parameters(network, trainable=True)}
        print(f"\n{case.name}\n{told(agreed)}\n{table(ratios)}")
        spent = profiles(subject)
        found.append(
            {"case": asdict(case) | sizes, "agreement": asdict(agreed), "profile": spent}
            | {"repeats": repeats, "ratios": {name: asdict(each) for name, each in ratios.items()}}
        )
    return found


def told(agreed: Agreement) -> str:
    """How far the two are apart, in a line."""
    gradients = ", ".join(f"{each:.1e} ({k} in a forward)" for k, each in agreed.gradients.items())
    return (
        f"largest difference: latents {agreed.latents:.1e}, log-probabilities {agreed.log_probs:.1e}; |ratio - 1| "
        f"{max(agreed.ratio.values()):.1e}, theirs {agreed.official_ratio:.1e}; gradients, relative: {gradients}"
    )


def table(ratios: dict[str, Ratio]) -> str:
    """The ratios as text."""
    rows = [
        [name, *(f"{value:.3f}" for value in (each.theirs, each.ours, each.ratio)), _quartiles(each)]
        for name, each in ratios.items()
    ]
    headers = ("", "theirs", "ours", "theirs / ours", "quartiles of the turns")
    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, stralign="right"))


def _quartiles(found: Ratio) -> str:
    return ", ".join(f"{value:.2f}" for value in found.quartiles)


def profiles(subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """The operators that take most of our training steps' processor time, unstacked and stacked."""
    samples, ranks = subject.sample(), Ranks()
    return {str(k): top(lambda k=k: train(subject, samples, k, ranks)) for k in STACKS}  # type: ignore[misc]


def top(work: Callable[[], Any]) -> list[dict[str, Any]]:
    """The `TOP` operators of `work` by own processor time: name, share of all operators' time, calls."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    events = sorted(seen.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)
    total = sum(event.self_cpu_time_total for event in events)
    return [
        {"operator": event.key, "share": event.self_cpu_time_total / total, "calls": event.count}
        for event in events[:TOP]
    ]
