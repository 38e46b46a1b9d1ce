"""Real runs on a real Slurm: the whole table by one sbatch, several nodes, and what may happen on the way.

Each test is whole by itself, so that workers may share them; nearly all of their time goes into importing libraries.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from bench_runs import lines, overrides, settings
from forked_ranks import command, fork
from slurm_cluster import Cluster, cluster, missing
from slurm_jobs import Study

from bench import train
from bench.experiments import GOLD

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"needs Slurm, not installed here: {missing()}"),
]

ROW = "sd3_guard_text"
ROWS = ("sd3_base", "sd3_flow_text", ROW)
# What a run's numbers may differ by when another number of ranks makes them: the order of a sum.
TOLERANCE = {"rel": 1e-3, "abs": 1e-6}
TOKENS = {name: f"secret-{name.lower()}" for name in ("HF_TOKEN", "MLFLOW_TRACKING_TOKEN", "UNIFIED_REWARD_API_KEY")}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def study_of(slurm: Cluster, folder: Path, asked: Sequence[str], **variables: str) -> Study:
    """A study with these settings of bench.train, which names its own run folder."""
    given = [each for each in asked if not each.startswith("runs=")]
    return Study(slurm, folder, {"OVERRIDES": "\n".join(given)} | variables)


def long(folder: Path) -> list[str]:
    """Settings of a run that lasts until it has been disturbed four times."""
    return overrides(folder, "updates=40", "evaluation.every=20")


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """The command lines of every process of this machine, looked at ten times a second."""
    seen, over = set[str](), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.update(running())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def running() -> Iterator[str]:
    """The command lines of this machine's processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes().decode(errors="replace")


def assert_same(one: Path, other: Path, names: Iterable[str | Path]) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def updates(study: Study) -> int:
    """Optimiser updates that the study's run has logged."""
    path = study.runs / ROW / "seed0" / "diagnostics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def ranks(slurm: Cluster, job: int) -> list[psutil.Process]:
    """The processes that train in a job of one row."""
    found = []
    for process in slurm.processes():
        with contextlib.suppress(psutil.Error):
            trains = "bench.train" in process.cmdline()[:3] and "bash" not in process.name()
            if trains and process.environ().get("SLURM_ARRAY_JOB_ID") == str(job):
                found.append(process)
    return found


def test_whatever_happens_to_a_run_it_ends_as_if_nothing_had(slurm: Cluster, tmp_path: Path) -> None:
    study = study_of(slurm, tmp_path, long(tmp_path), ROWS=ROW, LATER="", NODES="2")
    job = study.submit_rows()
    disturbances = (
        lambda: slurm.command("scancel", "--batch", "--signal=USR1", f"{job}_0"),
        lambda: slurm.command("scontrol", "requeue", f"{job}_0"),
        lambda: ranks(slurm, job)[1].send_signal(signal.SIGKILL),
        lambda: [each.send_signal(signal.SIGKILL) for each in ranks(slurm, job)],
    )
    for disturb in disturbances:
        before = updates(study)
        slurm.wait(lambda before=before: updates(study) > before + 2 and updates(study) % 2)  # in mid-epoch
        disturb()
        slurm.wait(lambda: not ranks(slurm, job))
    undisturbed = tmp_path / "undisturbed"
    asked = [f"row={ROW}", *long(tmp_path), f"runs={undisturbed}"]
    assert fork(2, command, tmp_path, *asked) == [0, 0]
    slurm.wait(lambda: slurm.ended(job))
    log = study.log("rows")
    assert slurm.states(job) == ["COMPLETED"], log
    happened = re.findall(r"stopped by \w+, saved|ended with code \d+", log)
    assert set(happened) >= {"stopped by SIGUSR1, saved", "stopped by SIGTERM, saved", "ended with code 137"}, log
    assert happened.count("ended with code 137") == 2, log
    one, other = (folder / ROW / "seed0" for folder in (undisturbed, study.runs))
    assert_same(one, other, ("metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors"))
    assert [line["update"] for line in lines(other / "diagnostics.jsonl")] == list(range(1, 41))


def test_four_ranks_on_two_nodes_train_the_run_of_one_process(slurm: Cluster, tmp_path: Path) -> None:
    study = study_of(slurm, tmp_path, overrides(tmp_path), ROWS=ROW, LATER="", NODES="2", TASKS_PER_NODE="2")
    job = study.submit_rows()
    alone = train.run(settings(ROW, tmp_path, f"runs={tmp_path}/alone"))
    slurm.wait(lambda: slurm.ended(job))
    assert slurm.states(job) == ["COMPLETED"], study.log()
    assert "on n[1-2]" in study.log("rows")
    shared = study.runs / ROW / "seed0"
    assert {line["ranks"] for line in lines(shared / "times.jsonl")} == {4}
    images = Path("images/update-000000")
    assert_same(alone, shared, [images / path.name for path in (alone / images).iterdir()])
    assert_same(alone, shared, ["scores/update-000000.parquet"])
    first, *later = zip(*(lines(folder / "metrics.jsonl") for folder in (alone, shared)), strict=True)
    assert first[0] == first[1]  # the evaluation before the first update
    rollout = ("proxy/reward", "proxy/reward_std")
    assert [later[0][0][key] for key in rollout] == [later[0][1][key] for key in rollout]
    for one, other in later:
        known = {key: value for key, value in one.items() if value is not None}
        assert {key: other[key] for key in known} == pytest.approx(known, **TOLERANCE)


def test_one_sbatch_leaves_the_table_and_no_secret_and_a_second_does_nothing_again(
    slurm: Cluster, tmp_path: Path
) -> None:
    asked = [each for each in overrides(tmp_path, "evaluation.images_per_prompt=2") if each != "tracking=null"]
    server = [sys.executable, *f"-m gold_metrics serve --scorers variety --port {(port := free_port())}".split()]
    judges = {"JUDGE_SERVER": "\n".join(server), "JUDGE_OPTIONS": f"variety.url=http://127.0.0.1:{port}"}
    study = study_of(slurm, tmp_path, asked, ROWS=",".join(ROWS), **judges, **TOKENS)
    with watched() as seen:
        *_, report = study.jobs(study.begin())
        slurm.wait(lambda: slurm.ended(report))
    assert slurm.states(report) == ["COMPLETED"], study.log()
    assert_table(study, seen)
    assert_no_secret(slurm, study, seen)
    kept = [path for name in ("times.jsonl", "metrics.jsonl", "*.parquet") for path in study.runs.rglob(name)]
    before = [path.read_bytes() for path in kept]
    study.settings |= {"JUDGE_SERVER": "", "ROWS": ROW}  # nobody will ask it, and one row stands for all
    rows, gold, _ = study.jobs(study.begin())
    slurm.wait(lambda: slurm.ended(gold))
    assert slurm.states(rows) + slurm.states(gold) == ["COMPLETED"] * 2, study.log()
    assert study.log("rows").count("is finished") == 1
    assert [path.read_bytes() for path in kept] == before


def assert_table(study: Study, seen: set[str]) -> None:
    """Table and figures are there, every row has its gold scores, and the judge that was served is served no more."""
    assert "GRPO-Guard" in (study.folder / "out/table1.md").read_text() and "all judged" in study.log("gold")
    assert {path.name for path in study.folder.glob("out/*.png")} == {f"figure{n}.png" for n in (1, 2, 3, 7)}
    for row in ROWS:
        scored = {key for line in lines(study.runs / row / "seed0/metrics.jsonl") for key in line}
        assert {f"gold/{name}" for name in GOLD["tiny"]} <= scored
    server = f"gold_metrics\0serve\0--scorers\0variety\0--port\0{study.settings['JUDGE_OPTIONS'].split(':')[-1]}"
    assert any(server in line for line in seen) and not any(server in line for line in running())


def assert_no_secret(slurm: Cluster, study: Study, seen: set[str]) -> None:
    """No token is in a command line, a log, a run or the database."""
    for module in ("bench.train", "bench.judge", "bench.ledger", "paper_tables"):
        assert any(f"\0{module}\0" in line for line in seen), module
    assert not [line for line in seen for token in TOKENS.values() if token in line]
    logs = [*slurm.folder.glob("*.log"), *slurm.folder.glob("*.out")]
    files = [path for path in [*study.folder.rglob("*"), *logs] if path.is_file()]
    assert {"run.json", "mlflow.db", "head.out", "slurmctld.log"} <= {path.name for path in files}
    assert not [path for path in files for token in TOKENS.values() if token.encode() in path.read_bytes()]
