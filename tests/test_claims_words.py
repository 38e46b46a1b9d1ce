"""Rows and measures as a reader calls them, in whatever part they stand; and what CSV keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted import FALLS, STAYS, text

from paper_tables.claims import evaluate, pages, words
from paper_tables.frame import Study

STUDY = text(flow=FALLS, guard=STAYS)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("sd3_guard_text - sd3_flow_text, gold/average", "GRPO-Guard less FlowGRPO on tiny SD3 text, gold average"),
        ("sd3_flow_kl_text, proxy", "FlowGRPO + KL on tiny SD3 text, proxy"),
        (
            "flux_dance_text - flux_base, picture/stripes",
            "DanceGRPO on tiny Flux text less its base model, picture stripes",
        ),
        (
            "sd3_guard_text at its end - sd3_flow_text at that proxy",
            "GRPO-Guard on tiny SD3 text at its end less FlowGRPO on tiny SD3 text at that proxy",
        ),
        ("34% of sd3_guard_text's own rise", "34% of GRPO-Guard's own rise"),
        ("sd3_base's gold/variety is -0.1", "the base model's gold variety is -0.1"),
        ("train sd3_base: `train row=sd3_base`", "train the base model tiny SD3: `train row=sd3_base`"),
        ("sd3_guard_texture, ratio_normal", "sd3_guard_texture, ratio_normal"),
    ],
)
def test_rows_and_measures_are_called_as_in_the_tables_and_what_is_to_be_typed_is_left(raw: str, shown: str) -> None:
    assert words.reader(STUDY)(raw) == shown


def test_a_method_of_ones_own_is_called_by_its_name_and_the_papers_scale_by_its_backbones() -> None:
    run = STUDY.runs[-1]
    info = run.info | {"row": "sd3_root_guard_text", "method": "root_guard", "setting": "own", "recipe": {}}
    mine = Study("paper", (*STUDY.runs, replace(run, info=info)))
    assert words.reader(mine)("sd3_root_guard_text") == "root_guard on SD3.5-M text"


def test_no_raw_name_of_a_row_is_shown_but_in_commands_and_csv_keeps_them() -> None:
    verdicts = evaluate(STUDY)
    page = pages.to_markdown(STUDY, verdicts)
    shown = [line for line in page.splitlines() if not line.startswith("Runs: ")]
    told = "".join(part for line in shown for part in line.split("`")[::2])
    assert "sd3_" not in told and "flux_" not in told and "gold/" not in told
    assert "sd3_guard_text - sd3_flow_text, gold/average" in pages.to_csv(verdicts)


def test_what_does_not_count_is_explained_before_it_first_appears() -> None:
    page = pages.to_markdown(STUDY, evaluate(STUDY))
    assert 0 < page.index(words.ABOUT_NOT_COUNTED) < page.index("| not counted")
