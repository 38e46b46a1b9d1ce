"""The scripts of `slurm/` where no Slurm is: their shell, what they would submit, and what they refuse."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from slurm_jobs import ROOT, dry_run

from bench import plan, submissions
from bench.config import ConfigError
from bench.experiments import SUITES
from bench.submissions import Submission

SCRIPTS = sorted((ROOT / "slurm").glob("*.sh"))
HOSTILE = "x; touch pwned; $(touch pwned)"


def head(suite: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script of a suite, asked what it would submit."""
    asked = os.environ | {"PYTHON": sys.executable, "DRY_RUN": "1", "ROWS": "sd3_flow_text"} | variables
    return subprocess.run(["bash", f"slurm/{suite}.sh"], cwd=ROOT, env=asked, capture_output=True, text=True)


def commands(suite: str, **variables: str) -> dict[str, list[str]]:
    """The words of each command that a script would give, by the script that it submits."""
    made = [shlex.split(line) for line in dry_run(suite, **variables).splitlines()]
    return {Path(words[-1]).name: words for words in made if words[0] == "sbatch"}


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck, not installed here")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-x", *SCRIPTS, ".ci/run"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "" and done.returncode == 0


@pytest.mark.parametrize("suite", SUITES)
def test_a_script_of_each_suite_submits_its_rows_then_scores_then_the_report(suite: str) -> None:
    made = commands(suite, SCALE="tiny", SEEDS="0,1,2", AT_ONCE="5")
    assert list(made) == ["row.sh", "gold.sh", "report.sh"]
    assert f"--array=0-{3 * len(SUITES[suite]) - 1}%5" in made["row.sh"]
    assert {"--signal=B:USR1@1800", "--requeue", "--open-mode=append"} <= set(made["row.sh"])
    assert {"--dependency=afterok:JOB_OF_ROWS", "--kill-on-invalid-dep=yes"} <= set(made["gold.sh"])
    assert "--dependency=afterok:JOB_OF_ROWS,afterany:JOB_OF_GOLD" in made["report.sh"]


def test_what_is_exported_goes_before_the_machines_own_settings() -> None:
    given = {
        "ROWS": "sd3_base",
        "NODES": "2",
        "GPUS_PER_NODE": "4",
        "ACCOUNT": "me",
        "SBATCH_OPTIONS": "--mem=0\n--x=a b",
    }
    row = commands("table1", **given)["row.sh"]
    wanted = {"--nodes=2", "--gpus-per-node=4", "--ntasks-per-node=4", "--account=me", "--mem=0", "--x=a b"}
    assert wanted <= set(row) and not any(word.startswith(("--partition", "--qos")) for word in row)


def test_the_tiny_scale_asks_for_no_gpu() -> None:
    for words in commands("table1", SCALE="tiny", ROWS="sd3_base").values():
        assert not any(word.startswith("--gpus") for word in words)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ROWS", HOSTILE, "table1 has no row 'x; touch pwned; $(touch pwned)'; its rows: sd3_base, "),
        ("ROWS", "sd3_base,--help", "table1 has no row '--help'"),
        ("SEEDS", HOSTILE, "SEEDS must be numbers with commas between them, found 'x; touch pwned"),
        ("SCALE", HOSTILE, "SCALE must be tiny or paper"),
        ("PROTOCOL", HOSTILE, "SCALE must be tiny or paper, and PROTOCOL paired or released"),
        ("OVERRIDES", "updates=3", "updates=3 is not a positive multiple of optim.updates_per_rollout=2"),
        ("OVERRIDES", "optim.raet=1", "there is no setting optim.raet"),
        ("OVERRIDES", "--list\noptim.rate=$(touch pwned)", "optim.rate=$(touch pwned)' is no setting"),
        ("OVERRIDES", "seed=5", "OVERRIDES must leave seed to ROWS, SEEDS, SCALE, PROTOCOL, RUNS or LATER"),
        ("OVERRIDES", "updates=8 optim.rate=1", "OVERRIDES must have one setting a line"),
        ("OVERRIDES", "+updats=8", "there is no setting updats"),
        ("TIME_LIMIT", "0:40:00", "TIME_LIMIT=0:40:00 leaves no time to train before the WARNING of 1800 s"),
        ("TIME_LIMIT", "90", "TIME_LIMIT must be HOURS:MINUTES:SECONDS"),
        ("MIRROR", "now", "MIRROR must be live or after, found 'now'"),
        ("PYTHON", "/nowhere/python", "no Python with all packages at /nowhere/python; run `make setup`"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(name: str, value: str, message: str) -> None:
    done = head("table1", **{"SCALE": "tiny", name: value})
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert not list(ROOT.rglob("pwned*"))


def test_what_a_setting_holds_stays_one_word() -> None:
    row = commands("table1", SCALE="tiny", ROWS="sd3_base", PARTITION=HOSTILE, RUNS="/tmp/a b")["row.sh"]
    assert f"--partition={HOSTILE}" in row and "--output=/tmp/a b/slurm/%x-%A_%a.out" in row
    assert not list(ROOT.rglob("pwned*"))


def test_the_rows_of_a_suite_are_listed_without_torch() -> None:
    asked = [sys.executable, "-X", "importtime", "-m", "bench.suite", "ablation", "--list", "--rows=sd3_guard_text"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "sd3_guard_text\n"
    assert "hydra" in done.stderr and not [line for line in done.stderr.splitlines() if line.endswith(" torch")]


def test_a_task_becomes_the_rank_that_slurm_says(tmp_path: Path) -> None:
    task = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    asked = ["bash", "slurm/rank.sh", "bash", "-c", 'echo "$RANK $LOCAL_RANK $WORLD_SIZE"']
    assert subprocess.check_output(asked, cwd=ROOT, env=os.environ | task, text=True) == "3 1 4\n"
    alone = subprocess.check_output(asked, cwd=ROOT, env=os.environ | task | {"SLURM_NTASKS": "1"}, text=True)
    assert alone == "  \n"


def test_the_plan_shows_what_would_be_submitted() -> None:
    shown = plan.dry_run("table1", ["scale=tiny", "row=sd3_base", "evaluation.steps=2"], 0.2).splitlines()
    asked = {"SCALE": "tiny", "ROWS": "sd3_base", "OVERRIDES": "evaluation.steps=2"}
    assert shown[:4] == dry_run("table1", **asked).splitlines()
    assert [line.split()[:2] for line in shown if "sd3_base" in line][-1] == ["sd3_base", "1"]


def test_hours_are_those_of_all_seeds_and_of_one_on_its_gpus() -> None:
    row = plan.plans_of(["scale=tiny", "row=sd3_flow_text"], 0.2, 1)[0]
    shown = plan.hours(
        [replace(row, hours=4.0)], Submission([], ["sd3_flow_text"], [0, 1, 2], gpus=8, scale="tiny")
    ).splitlines()
    assert [line.split() for line in shown[2:]] == [["sd3_flow_text", "3", "12", "8", "0.5"], ["total", "12"]]


def test_a_suite_without_its_script_is_answered_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "SCRIPTS", tmp_path)
    with pytest.raises(ConfigError, match=r"no .*table1\.sh; jobs are submitted from a checkout"):
        submissions.submission("table1", [])
