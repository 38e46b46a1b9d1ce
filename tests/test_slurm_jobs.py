"""What the jobs of `slurm/` do with the ends that a run may come to, on a real Slurm; the runs are stood in for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from slurm_cluster import Cluster, cluster, missing
from slurm_jobs import ROOT, Study

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"needs Slurm, not installed here: {missing()}"),
]

# `python -m bench.train` and its like, but for what they do: the name of a row says how it ends.
STAND_IN = """#!/bin/bash
runs=$3 row=
for word; do case $word in row=*) row=${word#row=} ;; runs=*) runs=${word#runs=} ;; esac; done
folder=$runs/$row/seed0
finish() { echo '{ "state": "finished"}' > "$folder/made"; mv "$folder/made" "$folder/status.json"; exit "$1"; }
case $2 in
  bench.train)
    mkdir -p "$folder"; echo "force=$FORCE of ${SLURM_RESTART_COUNT:-0}" >> "$folder/calls"
    calls=$(wc -l < "$folder/calls")
    case ${ENDS:-$row} in
      refused) exit 2 ;;
      lost) kill -KILL $$ ;;
      found) [ $calls = 3 ] && finish 0; exit 1 ;;
      preempted) [ $calls = 2 ] && finish 0; exit 75 ;;
      warned) trap 'exit 75' USR1 ;;
      crashed) trap 'exit 1' USR1 ;;
      late) trap 'finish 75' USR1 ;;
      deaf) trap '' USR1 ;;
      before) exit 0 ;;
      cancelled) trap 'exit 75' TERM ;;
    esac
    [ $calls = 2 ] && finish 0
    while true; do sleep 0.1; done ;;
  bench.judge)
    mkdir -p "$runs"; echo "judge ${*:4}" >> "$runs/judged"
    if [ -e "$runs/slow" ]; then rm "$runs/slow"; sleep 60; fi; exit "${JUDGED:-0}" ;;
  paper_tables) wc -l < "$4/judged" > "$4/table" ;;
  bench.ledger) ;;
  *) exec REAL "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@dataclass
class Begun:
    """A study of one row whose whole way was submitted by one sbatch, the job `head`."""

    study: Study
    head: int

    def ended(self) -> list[list[str]]:
        """The states of its rows, gold scores and report, when all have ended."""
        jobs = self.study.jobs(self.head)
        self.study.cluster.wait(lambda: all(self.study.cluster.ended(job) for job in jobs))
        return [self.study.cluster.states(job) for job in jobs]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("stand_in") / "python"
    path.write_text(STAND_IN.replace("REAL", sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def begun(slurm: Cluster, stand_in: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Begun]:
    """Studies that are on their way at once, since most of their time is waiting."""
    asked = {
        "refused": {"ENDS": "refused", "ROWS": "sd3_base,flux_base"},
        "missing": {"ENDS": "found", "JUDGED": "1", "RETRIES": "2"},
        "preempted": {"ENDS": "found", "JUDGE_OPTIONS": "a.url=b\nc.d=e; f", "JUDGE_WAIT": "7"},
    }
    made = {}
    for name, settings in asked.items():
        folder = tmp_path_factory.mktemp(name)
        server = {"JUDGE_SERVER": f"bash\n-c\necho $$ > {folder}/server; sleep 1000"}
        study = Study(slurm, folder, {"PYTHON": stand_in, "ROWS": "sd3_base"} | server | settings)
        study.runs.mkdir()
        if name == "preempted":
            (study.runs / "slow").touch()
        made[name] = Begun(study, study.begin())
    return made


def calls(study: Study, row: str) -> list[str]:
    path = study.runs / row / "seed0" / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_a_row_is_done_again_refused_or_left_as_its_end_asks(
    slurm: Cluster, begun: dict[str, Begun], tmp_path: Path, stand_in: str
) -> None:
    rows = ["refused", "lost", "found", "preempted", "warned", "crashed", "late", "deaf", "cancelled", "before"]
    study = Study(slurm, tmp_path, {"PYTHON": stand_in, "RETRIES": "2", "LATER": "", "SEEDS": "0", "WARNING": "6"})
    (study.runs / "before/seed0").mkdir(parents=True)
    (study.runs / "before/seed0/status.json").write_text('{\n "state": "finished",\n "update": 4\n}\n')
    job = slurm.sbatch(
        f"--array=0-{len(rows) - 1}", "--cpus-per-task=1", f"--output={tmp_path}/%a.out", "--open-mode=append",
        "--requeue", "slurm/row.sh", cwd=ROOT, **study.variables | {"ROWS": ",".join(rows)},
    )  # fmt: skip
    slurm.wait(lambda: all(calls(study, row) for row in rows))
    time.sleep(0.5)  # their traps stand
    for row in ("warned", "crashed", "late", "deaf"):
        slurm.command("scancel", "--batch", "--signal=USR1", f"{job}_{rows.index(row)}")
    slurm.command("scancel", f"{job}_{rows.index('cancelled')}")
    slurm.wait(lambda: slurm.ended(job))
    again, first = ["force=0 of 0", "force=0 of 1"], ["force=0 of 0"]
    assert {row: calls(study, row) for row in rows} == {
        "refused": first,
        "lost": first * 3,
        "found": first * 3,
        "preempted": again,
        "warned": again,
        "crashed": again,
        "late": first,  # it had finished, so it is not run again
        "deaf": again,  # it was given up before its time limit
        "cancelled": first,
        "before": first,  # the run itself says that it is finished
    }
    ends = dict(zip(rows, slurm.states(job), strict=True))
    failed = {"refused": "FAILED", "lost": "FAILED", "cancelled": "CANCELLED"}
    assert ends == {row: failed.get(row, "COMPLETED") for row in rows}
    assert "lost seed 0 ended 3 times without being finished" in (tmp_path / "1.out").read_text()


def test_every_attempt_of_a_job_begins_a_row_anew_by_the_same_word_also_where_it_was_finished(
    slurm: Cluster, tmp_path: Path, stand_in: str
) -> None:
    study = Study(slurm, tmp_path, {"PYTHON": stand_in, "LATER": "", "SEEDS": "0", "FORCE": "1"})
    for row in ("found", "preempted"):
        (study.runs / row / "seed0").mkdir(parents=True)
        (study.runs / row / "seed0/status.json").write_text('{\n "state": "finished"\n}\n')
    asked = study.variables | {"ROWS": "found,preempted"}  # the last task has the number of the whole array
    log = f"--output={tmp_path}/%a.out"
    job = slurm.sbatch("--array=0-1", "--cpus-per-task=1", log, "--requeue", "slurm/row.sh", cwd=ROOT, **asked)
    slurm.wait(lambda: slurm.ended(job))
    assert calls(study, "found") == [f"force=job-{job} of 0"] * 3
    assert calls(study, "preempted") == [f"force=job-{job} of 0", f"force=job-{job} of 1"]


def test_a_refused_row_ends_all_that_follows(begun: dict[str, Begun]) -> None:
    assert begun["refused"].ended() == [["FAILED", "FAILED"], ["CANCELLED"], ["CANCELLED"]]
    assert not (begun["refused"].study.runs / "judged").exists()


def test_judging_is_begun_again_and_the_report_waits_for_it(slurm: Cluster, begun: dict[str, Begun]) -> None:
    study, head = begun["preempted"].study, begun["preempted"].head
    slurm.wait(lambda: (study.runs / "judged").exists() and not (study.runs / "slow").exists())
    slurm.command("scancel", "--batch", "--signal=USR1", str(study.jobs(head)[1]))
    assert begun["preempted"].ended() == [["COMPLETED"], ["COMPLETED"], ["COMPLETED"]]
    asked = "judge --wait 7 --row sd3_base --seed 0 --set a.url=b --set c.d=e; f"
    assert (study.runs / "judged").read_text().splitlines() == [asked] * 2
    assert (study.runs / "table").read_text() == "2\n"
    slurm.wait(lambda: not psutil.pid_exists(int((study.folder / "server").read_text())), 30)


def test_scores_that_cannot_be_had_fail_and_do_not_cost_the_table(begun: dict[str, Begun]) -> None:
    assert begun["missing"].ended() == [["COMPLETED"], ["FAILED"], ["COMPLETED"]]
    assert (begun["missing"].study.runs / "table").read_text() == "1\n"  # call of the judges


def test_a_server_that_ends_is_not_waited_for(slurm: Cluster, tmp_path: Path, stand_in: str) -> None:
    study = Study(slurm, tmp_path, {"PYTHON": stand_in, "JUDGE_SERVER": "false", "LATER": ""})
    study.runs.mkdir()
    (study.runs / "slow").touch()
    job = slurm.sbatch(f"--output={tmp_path}/log", "slurm/gold.sh", cwd=ROOT, **study.variables)
    slurm.wait(lambda: slurm.ended(job), 50)  # the judge would take 60
    assert slurm.states(job) == ["FAILED"]
    assert "the judges' server ended" in (tmp_path / "log").read_text()


def test_nothing_is_left_of_a_slurm_that_is_stopped_with_jobs_at_work(slurm: Cluster, tmp_path: Path) -> None:
    with cluster(tmp_path) as other:
        job = other.sbatch("--nodes=2", f"--output={tmp_path}/log", "--wrap", "srun sleep 1000")
        other.wait(lambda: other.states(job) == ["RUNNING"])
        names = {process.name() for process in other.processes()}
    assert {"slurmctld", "slurmd", "slurmstepd"} <= names
    assert list(other.processes()) == []
    assert list(slurm.processes())  # and another one goes on
