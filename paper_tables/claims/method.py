"""Claims about the log ratio itself, from every optimizer update of any scale (equation 7, Figure 2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.experiments import PAIRS, Pair
from paper_tables.claims.evidence import Array, Evidence, over_updates, sums
from paper_tables.claims.register import claim
from paper_tables.claims.verdict import Band, Effect, Part, beside, inside, larger, missing

FLOW = "FlowGRPO"
# Our choice: a share of the bias, of which a RatioNorm is to leave none and a plain log ratio all.
BIAS_SHARE = 0.25
# Our choice: spreads of which the largest is at most half as large again as the smallest are called consistent.
CONSISTENT = 1.5
# Standard deviations in the animations of flow_grpo's README, largest over smallest: FlowGRPO 77, GRPO-Guard 6.5.
PAPER_SPREAD = 77 / 6.5
OTHER_FIGURE = "the paper's figure is of FlowGRPO"


@claim("C1", "equation 7")
def log_ratio_is_biased(evidence: Evidence) -> tuple[Part, ...]:
    """The plain log ratio has a mean below 0, namely -‖Δμ‖²/(2σ²dt).

    Test: off-policy updates of every row with a plain log ratio: the sum of its means over what equation 7 gives for
    them, 1 if it holds and 0 without a bias. As the log ratio is a mean over D elements, that is D/2 times the variance
    that the noise gives it. The variance that is recorded also holds how far ‖Δμ‖² differs between samples: where the
    policy moved far in an update the number comes out below 1 though the equation holds.
    """
    band = Band(1 - BIAS_SHARE, 1 + BIAS_SHARE, "equation 7 gives 1; a quarter each way is our choice")
    return _bias_shares(evidence, "log_r", band)


@claim("C3", "Figure 2, equation 8")
def normed_ratio_has_mean_one(evidence: Evidence) -> tuple[Part, ...]:
    """The ratio of GRPO-Guard (RatioNorm) has mean 1.

    Test: as C1 for every row with a RatioNorm, divided by std: 0 if nothing is left of the bias, 1 if all of it is.
    The ratio's mean is that of its log to within half its variance, below 1e-8.
    """
    band = Band(-BIAS_SHARE, BIAS_SHARE, "the paper has 0; a quarter of the bias is our choice")
    return _bias_shares(evidence, "ratio_norm", band)


def _bias_shares(evidence: Evidence, log_ratio: str, band: Band) -> tuple[Part, ...]:
    """All rows with this log ratio together, which decide, and each alone."""
    rows = evidence.with_log_ratio(log_ratio)
    name = f"mean log ratio over that of equation 7, all rows with {log_ratio}"
    if not rows:
        row = {"log_r": "sd3_flow_text", "ratio_norm": "sd3_guard_text"}[log_ratio]
        return (missing(name, f"no finished run with {log_ratio}: {evidence.make([row])}"),)
    each = {row: sums(evidence.updates(row), "plain", "kl").sum(-1) for row in rows}
    # Rows of equal length are drawn alike: together they have no more blocks than one.
    together = over_updates(_quotient(np.sum(list(each.values()), axis=0)), *map(evidence.updates, rows))
    singles = [
        beside(
            inside(row, over_updates(_quotient(draws), evidence.updates(row)), band, evidence.ids(row)), "one of them"
        )
        for row, draws in each.items()
    ]
    return (inside(name, together, band, evidence.ids(*rows)), *singles)


def _quotient(draws: Array) -> Array:
    return np.asarray(draws[:, 0] / draws[:, 1])


@claim("C2", "Figure 2c")
def mean_ratio_is_below_one(evidence: Evidence) -> tuple[Part, ...]:
    """FlowGRPO's mean ratio is below 1, most of all at the least noisy step.

    Test: off-policy updates, ratio with a mean over D as the paper plots it: 1 - mean ratio at the least noisy trained
    step is above 0, and above that of every other step. With a sum over D, the true ratio of the two policies, the mean
    is 1 whatever the policies are, so that the shift is one of the mean over D.
    """
    rows = [pair.base.name for pair in PAIRS if pair.base.method == FLOW]
    found = [part for row in rows if evidence.diagnosed(row) for part in _deficits(evidence, row)]
    return tuple(found) or (evidence.nothing("FlowGRPO", *rows, what="diagnostics"),)


def _deficits(evidence: Evidence, row: str) -> tuple[Part, ...]:
    n, excess, kl = np.moveaxis(sums(evidence.updates(row), "n", "excess", "kl"), 1, 0)
    deficit, predicted = -excess / n, (-kl / n)[0]
    ids, frame = evidence.ids(row), evidence.updates(row)
    last = larger(
        f"{row}, 1 - mean ratio at the least noisy step", over_updates(deficit[:, -1], frame),
        Effect(predicted[-1], "equation 7 has it at"), ids,
    )  # fmt: skip
    beyond = over_updates(deficit[:, -1] - deficit[:, :-1].max(-1), frame)
    effect = Effect(predicted[-1] - predicted[:-1].max(), "equation 7 has it at")
    return (last, larger(f"{row}, by how much that is most", beyond, effect, ids), *_with_a_sum(evidence, row))


def _with_a_sum(evidence: Evidence, row: str) -> list[Part]:
    """The mean ratio with a sum over D at the least noisy step, where it was recorded."""
    name, frame = f"{row}, mean ratio with a sum over D, least noisy step", evidence.updates(row)
    if "sum_ratio_mean" not in frame:
        return [Part(name, "", reason="not recorded", runs=evidence.ids(row))]
    last = frame[frame["step"] == frame["step"].max()]
    if last["sum_ratio_mean"].isna().any():
        return [Part(name, "", reason="beyond the range of a float", runs=evidence.ids(row))]
    draws = sums(last.assign(summed=last["n"] * last["sum_ratio_mean"]), "summed", "n")
    found = over_updates(_quotient(draws[..., -1]), last)
    return [Part(name, "", found.value, found, "1 whatever the policies are", evidence.ids(row))]


@claim("C4a", "Figure 2c")
def spread_is_equal_over_steps(evidence: Evidence) -> tuple[Part, ...]:
    """After RatioNorm the log ratio spreads equally at every step.

    Test: off-policy updates, standard deviation of each step's transitions, as in our Figure 2, largest over smallest:
    at most 1.5. As worded; the paper's
    own plots have 6.5 to 19, the schedule alone 8.4 (SD3.5-M, 10 steps, shift 3).
    """
    band = Band(1.0, CONSISTENT, "1 is equal, 1.5 our choice")

    def of_pair(pair: Pair) -> tuple[Part, ...]:
        row = pair.guard.name
        name, found = (
            f"{row}, largest spread over smallest",
            over_updates(_spread(evidence, row), evidence.updates(row)),
        )
        return (inside(name, found, band, evidence.ids(row)),)

    return of_pairs(evidence, of_pair)


@claim("C4b", "Figure 2c")
def spread_is_reduced(evidence: Evidence) -> tuple[Part, ...]:
    """RatioNorm makes the log ratio's spread less unequal over the steps than FlowGRPO has it.

    Test: as C4a, the base method's largest over smallest divided by GRPO-Guard's: above 1.
    """

    def of_pair(pair: Pair) -> tuple[Part, ...]:
        base, guard = (_spread(evidence, row.name) for row in (pair.base, pair.guard))
        effect = Effect(PAPER_SPREAD, "the paper has")
        rows = (pair.base.name, pair.guard.name)
        found = over_updates(base / guard, *map(evidence.updates, rows))
        name = f"largest spread over smallest, {rows[0]} {base[0]:.3g} over {rows[1]} {guard[0]:.3g}"
        return (larger(name, found, effect, evidence.ids(*rows), none=1.0),)

    return of_pairs(evidence, of_pair)


def of_pairs(evidence: Evidence, of_pair: Callable[[Pair], tuple[Part, ...]]) -> tuple[Part, ...]:
    """The parts of each pair that has been run; those of another base method than the figure's decide nothing."""
    parts: list[Part] = []
    for pair in PAIRS:
        if evidence.diagnosed(pair.base.name, pair.guard.name):
            found = of_pair(pair)
            parts += found if pair.base.method == FLOW else (beside(part, OTHER_FIGURE) for part in found)
    if any(part.verdict for part in parts):
        return tuple(parts)
    rows = [row.name for pair in PAIRS if pair.base.method == FLOW for row in (pair.base, pair.guard)]
    return (evidence.nothing("FlowGRPO and GRPO-Guard", *rows, what="diagnostics"), *parts)


def _spread(evidence: Evidence, row: str) -> Array:
    """Standard deviation of all transitions of a step together, as Figure 2 has it; largest over smallest."""
    n, total, squares = np.moveaxis(sums(evidence.updates(row), "n", "total", "squares"), 1, 0)
    deviation = np.sqrt((squares - total**2 / n) / (n - 1))
    return np.asarray(deviation.max(-1) / deviation.min(-1))
