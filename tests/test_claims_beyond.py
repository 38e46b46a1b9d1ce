"""Claims about rows and settings beyond Tables 1 and 2, on studies whose answer was planted."""

from __future__ import annotations

import pytest
from planted import BASE, ENDS, FALLS, STAYS, UPDATES, judged, text

from paper_tables.claims import beyond
from paper_tables.claims.evidence import Evidence
from paper_tables.claims.scores import FLOW_TEXT, GUARD_TEXT
from paper_tables.frame import Study

claim_18 = beyond.not_an_effect_of_other_settings.judge


def of_settings(study: Study, rate: float) -> Study:
    """The study, as one of runs at this learning rate that were all judged alike."""
    for run in study.runs:
        run.info.update(config={"optim": {"rate": rate}, "method": {"advantage": None}}, hashes={"evaluation": "one"})
    return study


def test_other_settings_are_studies_beside_and_the_gain_has_to_be_there_in_each() -> None:
    own, other = (of_settings(text(ENDS, flow=FALLS, guard=STAYS), rate) for rate in (1e-3, 3e-3))
    alone, both = (claim_18(Evidence(own, others)) for others in ((), (other,)))
    assert alone.verdict == "not run" and "--other runs/RATE" in alone.reason
    assert both.verdict == "confirmed"
    assert [part.name.rpartition(" at ")[2] for part in both.parts if part.verdict] == [
        "optim.rate=0.001, method.advantage=None", "optim.rate=0.003, method.advantage=None"
    ]  # fmt: skip
    nothing = of_settings(text(ENDS, flow=STAYS, guard=STAYS), 3e-3)
    assert claim_18(Evidence(own, [nothing])).verdict == "not confirmed"


def test_what_another_rate_does_for_the_base_method_and_either_way_across_is_shown_beside() -> None:
    own = of_settings(text(ENDS, flow=FALLS, guard=STAYS), 3e-3)
    falls_less = {"gold": BASE - 0.02 * UPDATES / 80}
    slow = of_settings(text(ENDS, flow=falls_less, guard={"gold": BASE + 0.05 * UPDATES / 80}), 1e-3)
    across = claim_18(Evidence(own, [slow])).parts[-3:]
    assert [part.name.split(" at ")[0] for part in across] == [FLOW_TEXT, GUARD_TEXT, GUARD_TEXT]
    there, here = "optim.rate=0.001, method.advantage=None", "optim.rate=0.003, method.advantage=None"
    assert across[1].name == f"{GUARD_TEXT} at {here} - {FLOW_TEXT} at {there}, gold/average"
    # FlowGRPO loses 0.1 here and 0.02 there, GRPO-Guard loses nothing here and gains 0.05 there
    for part, gained in zip(across, (0.08, 0.02, 0.15), strict=True):
        assert part.verdict == "" and part.value == pytest.approx(gained / 0.6, abs=0.02) and "proxy" in part.reason


@pytest.mark.parametrize("changed", ["noise", "judges", "weights", "evaluation", "prompts"])
def test_runs_that_were_not_made_alike_are_not_compared_across_settings(changed: str) -> None:
    own, slow = (of_settings(text(ENDS, flow=FALLS, guard=STAYS), rate) for rate in (3e-3, 1e-3))
    for run in slow.runs:
        run.info["hashes"] = run.info["hashes"] | {changed: "another"}
    last = claim_18(Evidence(own, [slow])).parts[-1]
    assert last.value is None and f"differ in {changed}" in last.reason


def test_a_study_of_the_same_settings_is_no_other() -> None:
    own, same = (of_settings(text(ENDS, flow=FALLS, guard=STAYS), 3e-3) for _ in range(2))
    assert claim_18(Evidence(own, [same])).verdict == "not run"


def test_rows_beside_table_1_that_were_not_run_are_asked_for() -> None:
    found = judged(beyond.no_heavy_kl_is_needed, text(ENDS, flow=FALLS, guard=STAYS))
    assert found.verdict == "not run" and "`make extra`" in found.reason
