"""Runs through SIGKILLs at random moments; `make faults` is the long form."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_runs import settings
from fault_run import ASKED, study, tally
from faults import Attempt, Blow, FaultError, Life, check
from left_behind import differences

KILLS = 6


def test_runs_that_are_killed_again_and_again_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    asked = (*ASKED, "updates=4", "evaluation.every=2")
    lives, whole = study(tmp_path, ("sd3_guard_text", "sd3_base"), KILLS, seed=0, at_once=2, asked=asked)
    report, same = tally(lives, whole)
    assert same, report
    assert sum(life.kills for life in lives) >= KILLS, report
    for life in lives:
        shown = next(line for line in report.splitlines() if line.startswith(life.asked.row))
        assert shown.endswith("nothing")
    made_wrong(lives[0].run, whole)


def made_wrong(run: Path, whole: dict[str, Life]) -> None:
    """Each kind of harm to a run is named."""
    for harm, words in HARM.items():
        harmed = Path(shutil.copytree(run, run.with_name("harmed")))
        harm(harmed)
        assert any(words in each for each in differences(whole["sd3_guard_text"].run, harmed)), words
        shutil.rmtree(harmed)


def double(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")


def flip(name: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        path = next(run.glob(name))
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    return harm


HARM: dict[Callable[[Path], object], str] = {
    double: "proxy/reward of update 1 is there more than once",
    flip("images/update-000004/*.png"): ".png differs",
    flip("scores/text/update-000004.parquet"): "scores/text/update-000004.parquet differs",
    flip("lora/*"): "lora/pytorch_lora_weights.safetensors differs",
    lambda run: (run / "diagnostics.jsonl").unlink(): "diagnostics.jsonl is missing",
    lambda run: (run / "scores/.update-000004.parquet.partial").touch(): "is left over",
}


def test_an_attempt_that_ends_by_itself_and_not_well_ends_the_fault_run(tmp_path: Path) -> None:
    life = Life(settings("sd3_base", tmp_path), tmp_path)
    (tmp_path / "log.txt").write_text("Traceback\nKeyError: 'x'\n")
    blow = Blow(1.0)
    assert check(life, Attempt("train", blow, -signal.SIGKILL, 1.0, "", None)) == 1
    assert check(life, Attempt("train", blow, 0, 1.0, "", None)) == 0
    for code, seconds, fell in ((1, 1.0, blow), (-signal.SIGKILL, 1.0, None), (-signal.SIGKILL, 121.0, blow)):
        with pytest.raises(FaultError, match=r"(?s)sd3_base, train attempt: exit code .*KeyError"):
            check(life, Attempt("train", fell, code, seconds, "", None))
