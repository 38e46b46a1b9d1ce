"""Figure 3's numbers against the closed forms of Table 2."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_ledger import schedule

from bench.experiments import TABLE1, Pair
from paper_tables.gradient import beta, guard_scale, imbalance, per_step, plain_scale, statements

PAIR = Pair(TABLE1["sd3_flow_text"], TABLE1["sd3_guard_text"])


def lines(flow: np.ndarray, guard: np.ndarray) -> pd.DataFrame:
    """Two updates of each half per method; the second update's norms are three times the first's."""
    frames = []
    for method, norm in (("FlowGRPO", flow), ("GRPO-Guard", guard)):
        for update, inner, factor in ((1, 0, 1.0), (2, 1, 1.0), (3, 0, 3.0), (4, 1, 3.0)):
            steps = schedule().assign(method=method, update=update, inner=inner, count=8)
            frames.append(steps.assign(grad_norm=factor * norm))
    return pd.concat(frames, ignore_index=True)


def test_beta_is_one_plus_half_eta_squared_except_at_the_guarded_first_step() -> None:
    found = beta(schedule()).to_numpy()
    assert found[1:] == pytest.approx(1 + 0.7**2 / 2, rel=1e-12)
    assert found[0] == 1  # at time 1 the drift's factor 1 - time is exactly 0


def test_the_sd3_schedule_alone_spreads_26_fold_and_under_guard_by_a_quarter() -> None:
    steps = schedule()
    frame = steps.assign(plain=plain_scale(steps), guard=guard_scale(steps))
    # reference values of Table 2's Baseline and GRPO-Guard on nine trained SD3 steps
    assert imbalance(frame, "plain") == pytest.approx(26.10, rel=5e-4)
    assert imbalance(frame, "guard") == pytest.approx(1.245, rel=5e-4)


def test_norms_that_follow_the_schedule_lie_on_its_prediction() -> None:
    steps = schedule()
    scale = {"FlowGRPO": plain_scale(steps).to_numpy(), "GRPO-Guard": guard_scale(steps).to_numpy()}
    frame = per_step(lines(scale["FlowGRPO"], scale["GRPO-Guard"]), PAIR)
    assert frame["relative"].to_numpy() == pytest.approx(frame["schedule"].to_numpy(), rel=1e-12)
    whole = frame[frame["half"] == "all"].groupby("method")["grad_norm"].apply(list)
    assert whole["FlowGRPO"] == pytest.approx(2 * scale["FlowGRPO"])  # mean of factors 1 and 3


def test_every_half_is_averaged_over_its_own_updates() -> None:
    data = lines(np.arange(1.0, 10.0), np.ones(9))
    data.loc[data["inner"] == 1, "grad_norm"] = 5.0
    frame = per_step(data, PAIR)
    found = {half: imbalance(part) for half, part in frame[frame["method"] == "FlowGRPO"].groupby("half")}
    # on-policy 2 i, off-policy 5: together (2 i + 5) / 2, so 23 / 7
    assert found == pytest.approx({"on-policy": 9.0, "off-policy": 1.0, "all": 23 / 7})
    assert set(frame.loc[frame["half"] == "all", "updates"]) == {4}


@pytest.mark.parametrize(("guard", "answer"), [(1.0, "yes"), (20.0, "no")])
def test_whether_guard_spreads_less_is_told_either_way(guard: float, answer: str) -> None:
    frame = per_step(lines(np.linspace(1, 10, 9), np.linspace(1, guard, 9)), PAIR)
    told = statements(frame, PAIR).splitlines()
    assert told[-1] == f"GRPO-Guard spreads less over the steps than FlowGRPO: {answer}"
    assert told[-3] == ("FlowGRPO: max/min 10x all, 10x on-policy, 10x off-policy; schedule alone 26.1x")
