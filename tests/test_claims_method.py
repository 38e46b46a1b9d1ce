"""Claims about the method, on log ratios, clipping and gradients that were planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fake_ledger
import numpy as np
import pandas as pd
import pytest
from fake_ledger import LATENT_ELEMENTS, SAMPLES, schedule, write_study
from scipy import stats

from bench.experiments import Row
from paper_tables import log_ratio
from paper_tables.claims import clipping, method
from paper_tables.claims.evidence import Evidence, over_updates, sums
from paper_tables.claims.register import Claim
from paper_tables.claims.verdict import Band, Verdict, inside
from paper_tables.frame import diagnostics, read

FLOW, GUARD = "sd3_flow_text", "sd3_guard_text"
UPDATES = tuple(range(0, 42, 2))  # 20 rollouts
Noise = np.ndarray
STD, DT = (schedule()[name].to_numpy()[:, None] for name in ("std", "dt"))
SHIFT = 0.05 * DT / STD  # |mu - mu_old| / std of the fake ledger


def plain(noise: Noise) -> Noise:
    return SHIFT * noise - SHIFT**2 / 2


def normed(noise: Noise) -> Noise:
    return STD * SHIFT * noise


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    """The verdict on a claim, where FlowGRPO's and GRPO-Guard's log ratios are functions of (T, SAMPLES) noise."""

    def verdict(
        claim: Claim, flow: Callable[[Noise], Noise] = plain, guard: Callable[[Noise], Noise] = normed,
        updates: tuple[int, ...] = UPDATES,
    ) -> Verdict:  # fmt: skip
        def log_ratios(row: Row, seed: int, update: int) -> Noise:
            generator = np.random.default_rng([seed, update, len(row.name)])
            noise = generator.standard_normal((9, SAMPLES)) / LATENT_ELEMENTS**0.5
            return (guard if row.name == GUARD else flow)(noise)

        monkeypatch.setattr(fake_ledger, "log_ratios", log_ratios)
        monkeypatch.setattr(fake_ledger, "UPDATES", updates)
        runs = tmp_path / f"runs{len(list(tmp_path.iterdir()))}"
        return claim.judge(Evidence(read(write_study(runs, (FLOW, GUARD)))))

    return verdict


def test_the_bias_of_equation_7_is_found_and_measured_as_one(judge: Callable[..., Verdict]) -> None:
    found = judge(method.log_ratio_is_biased)
    assert found.verdict == "confirmed"
    assert found.interval and found.interval.low < 1 < found.interval.high
    assert found.interval.over == "updates" and found.runs == (f"{FLOW}-seed0",)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_log_ratio_with_less_than_its_bias_is_refuted(judge: Callable[..., Verdict], share: float) -> None:
    found = judge(method.log_ratio_is_biased, flow=lambda noise: SHIFT * noise - share * SHIFT**2 / 2)
    assert found.verdict == "not confirmed" and found.value == pytest.approx(share, abs=0.1)


def test_two_updates_of_few_samples_tell_nothing_of_the_bias(
    judge: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_ledger, "SAMPLES", 6)
    monkeypatch.setattr("test_claims_method.SAMPLES", 6)
    assert judge(method.log_ratio_is_biased, updates=(0, 2, 4)).verdict == "underpowered"


def test_a_centred_ratio_norm_is_confirmed_and_one_that_kept_its_bias_refuted(judge: Callable[..., Verdict]) -> None:
    found = judge(method.normed_ratio_has_mean_one)
    assert found.verdict == "confirmed" and found.value == pytest.approx(0, abs=0.1)
    kept = judge(method.normed_ratio_has_mean_one, guard=lambda noise: STD * plain(noise))
    assert kept.verdict == "not confirmed" and kept.value == pytest.approx(1, abs=0.1)


def test_the_mean_ratio_is_below_one_by_its_closed_form_and_most_at_the_last_step(
    judge: Callable[..., Verdict],
) -> None:
    found = judge(method.mean_ratio_is_below_one)
    first = found.parts[0]
    # a mean over D: 1 - exp(-shift^2 / 2 + shift^2 / (2 D)), shift 0.05 dt / std at step 8
    expected = -np.expm1(-(SHIFT[8, 0] ** 2) / 2 * (1 - 1 / LATENT_ELEMENTS))
    assert found.verdict == "confirmed" and first.interval
    assert first.interval.low < expected < first.interval.high
    assert found.parts[2].reason == "not recorded"


def test_a_mean_ratio_that_is_lowest_elsewhere_is_refuted(judge: Callable[..., Verdict]) -> None:
    found = judge(method.mean_ratio_is_below_one, flow=lambda noise: plain(noise)[::-1])
    assert found.verdict == "not confirmed"


def test_the_spread_is_the_schedules_and_so_not_equal_but_reduced(judge: Callable[..., Verdict]) -> None:
    worded, reduced = judge(method.spread_is_equal_over_steps), judge(method.spread_is_reduced)
    spread = (STD * SHIFT).max() / (STD * SHIFT).min()
    assert worded.verdict == "not confirmed" and worded.value == pytest.approx(spread, rel=0.05)
    assert reduced.verdict == "confirmed"
    assert reduced.value == pytest.approx(SHIFT.max() / SHIFT.min() / spread, rel=0.05)


def test_the_spread_is_to_the_digit_the_one_that_figure_2_has(tmp_path: Path) -> None:
    study = read(write_study(tmp_path, (FLOW, GUARD), seeds=(0, 1)))
    drawn = log_ratio.moments(diagnostics(study.runs)).query("inner == 1").groupby("method")["sd"]
    each = drawn.max() / drawn.min()
    found = method.spread_is_reduced.judge(Evidence(study))
    assert found.value == pytest.approx(each["FlowGRPO"] / each["GRPO-Guard"], rel=1e-12)


def test_an_equal_spread_is_confirmed_as_worded(judge: Callable[..., Verdict]) -> None:
    assert judge(method.spread_is_equal_over_steps, guard=lambda noise: 1e-3 * noise).verdict == "confirmed"


def test_a_ratio_norm_that_spreads_like_the_plain_one_is_not_reduced(judge: Callable[..., Verdict]) -> None:
    assert judge(method.spread_is_reduced, guard=lambda noise: SHIFT * noise).verdict == "not confirmed"


def test_clips_that_act_as_the_paper_says_are_confirmed(judge: Callable[..., Verdict]) -> None:
    low = judge(clipping.clipping_acts_on_both_sides, flow=lambda noise: plain(noise) - 1e-2)
    assert low.verdict == "confirmed"
    assert {part.verdict for part in low.parts} == {"confirmed"}


def test_an_upper_clip_that_acts_is_told_with_its_step(judge: Callable[..., Verdict]) -> None:
    high = judge(clipping.clipping_acts_on_both_sides, flow=lambda noise: SHIFT * noise)
    assert high.verdict == "not confirmed" and f"{FLOW}, advantage > 0 above 1 + clip, step 8" in high.reason


def test_a_guard_that_clips_on_one_side_alone_is_refuted(judge: Callable[..., Verdict]) -> None:
    found = judge(
        clipping.clipping_acts_on_both_sides, flow=lambda noise: 1e-9 * noise, guard=lambda noise: abs(noise) + 1e-3
    )
    assert found.verdict == "not confirmed" and "advantage < 0 below 1 - clip" in found.reason


def test_clip_shares_by_side_sign_and_step_are_those_of_the_samples(
    judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    judge(clipping.clipping_acts_on_both_sides)
    table = clipping.activity(Evidence(read(tmp_path / "runs0")))
    assert len(table) == 2 * 9 * 4
    chosen = table[(table["row"] == GUARD) & (table["step"] == 8) & (table["sign"] == "negative")].set_index("side")
    # a centred Gaussian of standard deviation std * shift / sqrt(D), clip 2e-6: half of it nearly on either side
    assert chosen["share"].to_dict() == pytest.approx({"high": 0.5, "low": 0.5}, abs=0.05)
    assert chosen["acts"].to_dict() == {"high": False, "low": True}


def test_the_gradients_imbalances_are_compared(judge: Callable[..., Verdict]) -> None:
    found = judge(clipping.gradient_falls_evenly_on_the_steps)
    wobble = np.mean([1 + 0.2 * np.sin(np.arange(9) + update + inner) for update in UPDATES[1:] for inner in (0, 1)], 0)
    flow, guard = DT[:, 0] / STD[:, 0] * wobble, wobble
    assert found.verdict == "confirmed"
    assert found.value == pytest.approx((flow.max() / flow.min()) / (guard.max() / guard.min()))


def test_rows_that_were_not_run_are_named_with_the_command(tmp_path: Path) -> None:
    study = read(write_study(tmp_path, (FLOW,)))
    found = method.spread_is_reduced.judge(Evidence(study))
    assert found.verdict == "not run" and found.value is None
    assert "sd3_guard_text" in found.reason and "`make table1`" in found.reason and FLOW not in found.reason


def test_runs_without_diagnostics_are_no_evidence(tmp_path: Path) -> None:
    study = read(write_study(tmp_path, (FLOW, GUARD), diagnosed=False))
    for claim in (method.log_ratio_is_biased, method.spread_is_reduced, clipping.clipping_acts_on_both_sides):
        assert claim.judge(Evidence(study)).verdict == "not run"


@pytest.mark.parametrize(("updates", "like_the_last"), [(160, 0.0), (160, 0.45), (40, 0.45), (4, 0.0)])
def test_intervals_over_updates_hold_the_mean_though_they_are_few_and_resemble_their_neighbours(
    updates: int, like_the_last: float
) -> None:
    generator, held, studies = np.random.default_rng(0), 0, 200
    for _ in range(studies):
        values = generator.normal(0, (1 - like_the_last**2) ** 0.5, updates)
        values[0] /= (1 - like_the_last**2) ** 0.5
        for update in range(1, updates):
            values[update] += like_the_last * values[update - 1]
        frame = pd.DataFrame({"run_id": "a", "update": range(updates), "step": 0, "x": values, "n": 1.0, "seed": 0})
        draws = sums(frame, "x", "n")
        found = over_updates(draws[:, 0, 0] / draws[:, 1, 0], frame)
        held += found.low <= 0 <= found.high
    print(updates, like_the_last, held / studies)
    assert 0.9 <= held / studies <= 1


def test_of_rows_together_the_one_with_the_fewest_blocks_decides_how_wide_the_interval_is() -> None:
    values = np.random.default_rng(0).normal(size=400)
    long, short = (
        pd.DataFrame({"run_id": "a", "update": range(n), "step": 0, "x": values[:n], "seed": 0}) for n in (400, 8)
    )
    draws = sums(long, "x")[:, 0, 0]
    alone, together = over_updates(draws, long), over_updates(draws, long, short)
    # forty blocks of ten and four of two: sqrt(n / (n - 1)) times the quantile of t with n - 1 degrees of freedom
    wider = (4 / 3) ** 0.5 * stats.t.ppf(0.975, 3) / ((40 / 39) ** 0.5 * stats.t.ppf(0.975, 39))
    assert together.high - together.low == pytest.approx(wider * (alone.high - alone.low))


def test_one_update_tells_nothing_of_its_own_spread() -> None:
    frame = pd.DataFrame({"run_id": "a", "update": [3], "step": 0, "x": 1.0, "n": 2.0, "seed": 0})
    draws = sums(frame, "x", "n")
    found = over_updates(draws[:, 0, 0] / draws[:, 1, 0], frame)
    assert found.value == 0.5 and np.isnan([found.low, found.high]).all()
    assert inside("one update", found, Band(0, 1, "wide"), ()).verdict == "underpowered"


@pytest.mark.parametrize(("updates", "block"), [(3, 1), (8, 2), (20, 5), (400, 10)])
def test_neighbours_are_drawn_together_in_blocks_of_ten_at_most_and_a_quarter_of_a_short_run(
    updates: int, block: int
) -> None:
    first, second = np.eye(updates)[:2]
    frame = pd.DataFrame({"run_id": "a", "update": range(updates), "step": 0, "x": first, "y": second})
    drawn = sums(frame, "x", "y")[1:, :, 0]
    # of n / b blocks each holds both with (b - 1) / n and either with b / n
    expected = updates / block * ((block - 1) / updates - (block / updates) ** 2)
    assert np.cov(drawn.T)[0, 1] == pytest.approx(expected, abs=0.08)
