"""Figure 2's numbers against the raw log ratios that made the records."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from fake_ledger import UPDATES, log_ratios, signs, write_study

from bench.experiments import TABLE1, Pair, Row, histogram_edges
from paper_tables.figure2 import joined
from paper_tables.frame import diagnostics, read
from paper_tables.log_ratio import histograms, moments, shown_steps, statements

PAIR = Pair(TABLE1["sd3_flow_text"], TABLE1["sd3_guard_text"])


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = write_study(tmp_path_factory.mktemp("runs"), (PAIR.base.name, PAIR.guard.name), seeds=(0, 1))
    return diagnostics(read(root).runs)


def raw(name: str) -> np.ndarray:
    """(T, samples) of all off-policy updates of both seeds."""
    pieces = [log_ratios(TABLE1[name], seed, update + 1) for seed in (0, 1) for update in UPDATES[1:]]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("row", [PAIR.base, PAIR.guard])
def test_pooled_moments_are_those_of_all_log_ratios_together(lines: pd.DataFrame, row: Row) -> None:
    frame = moments(lines)
    samples = raw(row.name)
    found = frame[(frame["method"] == row.method) & (frame["inner"] == 1)]
    assert (found["n"] == samples.shape[1]).all()
    assert found["mean"].to_numpy() == pytest.approx(samples.mean(1), rel=1e-9)
    assert found["sd"].to_numpy() == pytest.approx(samples.std(1, ddof=1), rel=1e-9)
    standard_error = samples.std(1, ddof=1) / math.sqrt(samples.shape[1])
    assert found["z"].to_numpy() == pytest.approx(samples.mean(1) / standard_error, rel=1e-9)


def test_the_halves_are_kept_apart(lines: pd.DataFrame) -> None:
    frame = moments(lines).set_index(["method", "inner", "step"])
    on, off = frame.loc[("FlowGRPO", 0, 8), "sd"], frame.loc[("FlowGRPO", 1, 8), "sd"]
    assert on < 1e-8
    assert off > 1e-3


def with_sums(lines: pd.DataFrame) -> pd.DataFrame:
    """Moments of exp(D log r) as the runner records them: of what `raw` has, by update."""
    generator = np.random.default_rng(0)
    means, deviations = 1 + generator.normal(0, 0.01, len(lines)), generator.uniform(0.1, 0.3, len(lines))
    return lines.assign(sum_ratio_mean=means, sum_ratio_std=deviations)


def test_the_ratio_with_a_sum_over_d_is_pooled_as_one_sample_and_unknown_where_an_update_is(
    lines: pd.DataFrame,
) -> None:
    known = with_sums(lines)
    part = known[(known["method"] == "FlowGRPO") & (known["inner"] == 1) & (known["step"] == 8)]
    n, mean, sd = (part[name].to_numpy() for name in ("count", "sum_ratio_mean", "sum_ratio_std"))
    # samples with each update's mean and standard deviation exactly: the mean plus and minus the same offset
    samples = [m + s * np.sqrt((k - 1) / k) * np.tile([-1, 1], k // 2) for k, m, s in zip(n, mean, sd, strict=True)]
    found = moments(known).set_index(["method", "inner", "step"]).loc[("FlowGRPO", 1, 8)]
    together = np.concatenate(samples)
    assert found["sum_mean"] == pytest.approx(together.mean()) and found["sum_sd"] == pytest.approx(
        together.std(ddof=1)
    )
    known.loc[part.index[0], ["sum_ratio_mean", "sum_ratio_std"]] = np.nan
    unknown = moments(known).set_index(["method", "inner", "step"])
    assert np.isnan(unknown.loc[("FlowGRPO", 1, 8), "sum_mean"]) and np.isfinite(
        unknown.loc[("FlowGRPO", 1, 7), "sum_mean"]
    )


def test_the_mean_ratio_is_that_of_the_samples(lines: pd.DataFrame) -> None:
    found = moments(lines).set_index(["method", "inner", "step"]).loc[("FlowGRPO", 1), "ratio_mean"]
    # of third order in a log ratio of a few thousandths
    assert found.to_numpy() == pytest.approx(np.exp(raw("sd3_flow_text")).mean(1), abs=1e-7)


def test_the_control_and_both_reductions_are_told(lines: pd.DataFrame) -> None:
    without, told = statements(moments(lines), PAIR), statements(moments(with_sums(lines)), PAIR)
    assert "Control, before any update: mean " in without
    assert without.count("with a sum over D (1 whatever the policies are): not recorded") == 2
    assert "FlowGRPO, step 8, mean ratio with a sum over D (1 whatever the policies are): 1.0" in told


def test_a_step_that_no_member_trained_adds_nothing(lines: pd.DataFrame) -> None:
    empty = lines.head(9).assign(step=range(1, 10), count=0, log_ratio_mean=np.nan, log_ratio_std=np.nan)
    pd.testing.assert_frame_equal(moments(pd.concat([lines, empty])), moments(lines))


def test_summed_histograms_are_the_histogram_of_all_log_ratios(lines: pd.DataFrame) -> None:
    frame = histograms(lines)
    negative = np.tile(signs() < 0, 4)
    expected, _ = np.histogram(raw("sd3_flow_text")[8][negative], histogram_edges())
    found = frame[(frame["method"] == "FlowGRPO") & (frame["inner"] == 1)]
    found = found[(found["sign"] == "negative") & (found["step"] == 8)]
    assert dict(zip(found["bin"], found["count"], strict=True)) == {
        index: expected[index] for index in np.flatnonzero(expected)
    }
    edges = np.array(histogram_edges())
    assert (found["left"] == edges[found["bin"]]).all() and (found["right"] == edges[found["bin"] + 1]).all()


def test_the_shift_of_flow_grpo_and_the_centre_of_guard_are_told(lines: pd.DataFrame) -> None:
    told = statements(moments(lines), PAIR).splitlines()[-2:]
    mean = raw("sd3_flow_text")[8].mean()
    assert told[0].startswith(f"FlowGRPO, least noisy trained step 8: mean {mean:.3e}, ")
    assert "below 0 by more than 5 SE: yes (-" in told[0]
    assert told[1].startswith("GRPO-Guard") and "within 3 SE of 0: yes" in told[1]


def test_a_planted_counterexample_is_told_as_one(lines: pd.DataFrame) -> None:
    frame = moments(lines)
    last = frame["step"] == 8
    frame.loc[last & (frame["method"] == "FlowGRPO"), "z"] = -4.9
    frame.loc[last & (frame["method"] == "GRPO-Guard"), "z"] = 3.1
    told = statements(frame, PAIR).splitlines()[-2:]
    assert told[0].endswith("5 SE: no (-4.90 SE)") and told[1].endswith("3 SE of 0: no (+3.10 SE)")


def test_the_steps_shown_are_the_papers_where_nine_are_trained() -> None:
    assert shown_steps(pd.Index(range(9))) == [8, 6, 4, 2, 0]
    assert shown_steps(pd.Index([3, 5])) == [5, 3]


def gaussian_counts(sd: float, samples: int) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(0, sd, samples)
    counts, _ = np.histogram(values, histogram_edges())
    return pd.DataFrame({"bin": np.flatnonzero(counts), "count": counts[np.flatnonzero(counts)]})


@pytest.mark.parametrize("sd", [1e-6, 1e-3, 1e-1])
def test_joined_bins_show_a_gaussian_as_a_gaussian_at_any_spread(sd: float) -> None:
    edges, density = joined(gaussian_counts(sd, 200_000), sd / 3)
    centre = (edges[1:] + edges[:-1]) / 2
    inside = abs(centre) < 2 * sd
    # a bin of width sd / 3 or less flattens exp(-x^2 / 2) by a few per cent
    assert density[inside] == pytest.approx(np.exp(-((centre[inside] / sd) ** 2) / 2), abs=0.06)


def test_joining_bins_keeps_every_count_and_no_narrow_bin_near_zero() -> None:
    counts = gaussian_counts(1e-4, 10_000)
    edges, density = joined(counts, 3e-5)
    share = density * np.diff(edges)
    share /= share.sum()
    fine = np.zeros(len(histogram_edges()) - 1)
    fine[counts["bin"]] = counts["count"]
    at_zero = np.searchsorted(edges, 0)
    assert share[:at_zero].sum() == pytest.approx(fine[:100].sum() / fine.sum())
    assert np.diff(edges).min() > 3e-5 * 0.8
