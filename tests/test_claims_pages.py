"""What `python -m paper_tables claims` prints and writes."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from fake_ledger import write_study

from bench.experiments import TABLE1
from paper_tables.__main__ import main
from paper_tables.claims import CLAIMS, evaluate
from paper_tables.claims.pages import number, over
from paper_tables.frame import read
from paper_tables.statistics.bootstrap import Interval

FILES = ("claims.md", "claims.csv", "claims.json", "claims_clipping.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of Table 1 with diagnostics and metrics, but without a score file; their claims in out."""
    root = tmp_path_factory.mktemp("claims")
    write_study(root / "runs", tuple(row.name for row in TABLE1.values() if row.task in ("", "text")))
    assert main(["claims", "--runs", str(root / "runs"), "--out", str(root / "out")]) == 0
    return root


def test_the_first_line_says_of_what_scale_seeds_and_protocol_it_speaks(made: Path) -> None:
    first = (made / "out" / "claims.md").read_text().splitlines()[0]
    assert first.startswith("The claims of GRPO-Guard: tiny scale, protocol paired, seed 0, 7 finished runs.")
    assert "neither confirm nor contradict the paper's numbers of SD3.5-M and FLUX.1-dev" in first


def test_verdicts_at_the_papers_scale_are_about_its_models(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", ("sd3_base", "sd3_flow_text"), scale="paper", protocol="released", seeds=(0, 1))
    assert main(["claims", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "claims.md").read_text()
    first = page.splitlines()[0]
    assert first == "The claims of GRPO-Guard: paper scale, protocol released, seeds 0, 1, 4 finished runs."
    assert "`make table1 SCALE=paper PROTOCOL=released`" in page


def test_every_claim_is_printed_with_its_number_and_written_in_all_three_forms(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", "--runs", str(made / "runs"), "--out", str(made / "again")]) == 0
    printed = capsys.readouterr().out
    page = (made / "out" / "claims.md").read_text()
    table = list(csv.DictReader(io.StringIO((made / "out" / "claims.csv").read_text())))
    data = json.loads((made / "out" / "claims.json").read_text())
    whole = [line for line in table if not line["part"]]
    assert len(whole) == len(data["claims"]) == len(CLAIMS) == 20
    for each, line, told in zip(evaluate(read(made / "runs")), whole, data["claims"], strict=True):
        assert f"{each.id:<4} {each.verdict.upper():<14} {number(each.value, each.interval)}" in printed
        assert f"### {each.id}: {each.verdict}" in page and each.test in page
        assert (line["id"], line["verdict"], line["runs"].split()) == (each.id, each.verdict, list(each.runs))
        assert (told["id"], told["verdict"], told["value"], told["reason"]) == (
            each.id, each.verdict, each.value, each.reason
        )  # fmt: skip
        assert len(told["parts"]) == sum(part["id"] == each.id for part in table) - 1


def test_equal_runs_give_equal_bytes(made: Path) -> None:
    if not (made / "again").exists():
        main(["claims", "--runs", str(made / "runs"), "--out", str(made / "again")])
    for name in FILES:
        assert (made / "out" / name).read_bytes() == (made / "again" / name).read_bytes()


def test_the_page_carries_the_rules_by_which_it_judges(made: Path) -> None:
    page, data = (made / "out" / "claims.md").read_text(), json.loads((made / "out" / "claims.json").read_text())
    assert all(f"- {rule}" in page for rule in data["rules"]) and len(data["rules"]) == 5


def test_a_number_is_shown_with_three_digits_and_what_its_interval_is_over() -> None:
    found = Interval(0.98765, 0.87, 1.1, "updates", 0, 3)
    assert number(found.value, found) == "0.988 [0.870, 1.10]" and over(found) == "updates, 3 seeds"
    assert number(None, None) == "—" and over(None) == ""
    assert over(Interval(1, 0, 2, "prompts", 96, 1)) == "prompts, 1 seed, 96 prompts"
    alone = Interval(1, math.nan, math.nan, "prompts", 96, 1)
    assert (number(alone.value, alone), over(alone)) == ("1.00", ""), "what has no interval has none over anything"


def test_a_command_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["claim"])
    assert "invalid choice: 'claim'" in capsys.readouterr().err


def test_other_settings_are_for_claims_and_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tables", "--other", "runs/tiny"])
    assert "--other is for claims and report alone" in capsys.readouterr().err
