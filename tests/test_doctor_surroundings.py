"""Each check of `bench.doctor` on files and services finds the fault that it is for."""

from __future__ import annotations

import errno
import fcntl
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bench_runs import PROMPTS, settings
from doctor_findings import TOKEN, told

from bench import config, space
from bench.doctor import files, services
from bench.doctor.finding import Finding, examine
from bench.record import write_json
from gold_metrics.weights import WEIGHTS

WEIGHTS_SD3 = Path(config.__file__).parent / "tiny/weights/sd3"


# --- files


def weights(folder: Path, runs: Path) -> Finding:
    made = settings("sd3_base", runs.parent).backbones["sd3"]
    made.weights = str(folder)
    return files.weights(made, "sd3", runs)


def test_weights_that_are_absent_incomplete_or_changed_are_found(tmp_path: Path) -> None:
    folder, runs = tmp_path / "sd3", tmp_path / "runs"
    told(weights(folder, runs), "FAILED", f"{folder} is not on this machine")
    shutil.copytree(WEIGHTS_SD3, folder)
    found = weights(folder, runs)
    told(found, "ok", str(folder))
    fingerprint = found.text[-17:-1]
    run = runs / "sd3_base/seed0"
    run.mkdir(parents=True)
    write_json(run / "run.json", {"backbone": "sd3", "weights": "published", "hashes": {"weights": fingerprint}})
    told(weights(folder, runs), "ok")
    with (folder / "vae/config.json").open("a") as file:
        file.write(" ")
    told(weights(folder, runs), "FAILED", f"are other weights than {run} was made with")
    shutil.rmtree(folder / "vae")
    told(weights(folder, runs), "FAILED", "lacks vae")
    write_json(folder / "transformer/a.index.json", {"weight_map": {"layer": "00001-of-00002.safetensors"}})
    told(weights(folder, runs), "FAILED", "lacks vae, transformer/00001-of-00002.safetensors")
    (folder / "model_index.json").write_text("{")
    told(weights(folder, runs), "FAILED", "lacks a model_index.json that can be read")


def test_gated_weights_say_whose_licence_and_whether_there_is_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    found = weights(Path("black-forest-labs/FLUX.1-dev"), tmp_path / "runs")
    told(found, "FAILED", "accept the FLUX.1 [dev] Non-Commercial License at https://", "HF_TOKEN is not set")


def test_prompts_that_are_missing_damaged_or_too_few_are_found(tmp_path: Path) -> None:
    told(files.prompt_file(PROMPTS / "text.jsonl"), "ok", "97 prompts")
    told(examine(lambda: files.prompt_file(tmp_path / "ocr_test.jsonl")), "FAILED", "bench.prompts get ocr")
    short = tmp_path / "geneval_test.jsonl"
    short.write_text('{"prompt": "a photo of a bench"}\n')
    told(files.prompt_file(short), "FAILED", "1 prompts", "and the public set has 2212", "bench.prompts get geneval")
    short.write_text('{"prompt": ')
    told(examine(lambda: files.prompt_file(short)), "FAILED", "line 1 must be an object")


def test_a_disk_too_small_for_the_rows_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [settings(row, tmp_path) for row in ("sd3_base", "sd3_guard_text")]
    needed = sum(files._left(each) for each in rows)
    monkeypatch.setattr(space, "free", lambda folder: needed)
    told(files.disk(rows), "ok", "2 rows write 1.")
    monkeypatch.setattr(space, "free", lambda folder: needed - 1)
    told(files.disk(rows), "FAILED", "are free at /", "make room")
    stored = tmp_path / "embeddings"
    for each in rows:
        each.backbones["sd3"].embeddings = str(stored)
    both = files._embeddings(rows)
    assert both == files._embeddings(rows[1:]) > files._embeddings(rows[:1]) > 0  # shared, not added
    stored.mkdir()
    (stored / "a").write_bytes(bytes(4096))
    assert files._embeddings(rows) == both - 4096


def test_a_folder_that_cannot_be_written_or_locked_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(files.writing(tmp_path / "not/yet/there"), "ok", f"{tmp_path} can be written, synced, renamed and locked")
    (tmp_path / "file").touch()
    told(files.writing(tmp_path / "file"), "FAILED", "file cannot be written: Not a directory", "choose another runs=")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    for flock in (refuse, lambda *_: None):  # the second locks out nobody
        monkeypatch.setattr(fcntl, "flock", flock)
        told(files.writing(tmp_path), "warning", "file locks do not work", "-o flock")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_mounted_read_only_is_found(tmp_path: Path) -> None:
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", tmp_path], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a disk cannot be mounted, which needs root: {made.stderr.strip()}")
    try:
        told(files.writing(tmp_path / "runs"), "FAILED", "cannot be written: Read-only file system")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# --- judges, tracking, Slurm


@pytest.fixture
def server() -> Iterator[Any]:
    """Answers every request with the code that it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(made.code)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.code, made.asked = 200, []  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_tracking_server_is_asked_and_one_that_is_down_is_found(server: Any) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    told(services.tracking(url), "ok", f"{url} answers")
    assert server.asked == ["/health"]
    server.code = 404
    told(services.tracking(url), "FAILED", "answers 404")
    told(
        services.tracking(f"http://127.0.0.1:{closed_port()}"),
        "FAILED",
        "no answer from http://127.0.0.1:",
        "import RUNS",
    )
    found = examine(lambda: services.tracking(f"http://somebody:{TOKEN}@127.0.0.1:1"))
    told(found, "FAILED", "the tracking address holds a password", "MLFLOW_TRACKING_PASSWORD")
    assert TOKEN not in str(found)


def test_a_store_that_is_not_there_is_fine_and_one_that_is_broken_is_found(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    told(services.tracking(None), "ok")
    told(services.tracking(f"sqlite:///{path}"), "ok", "yet to be made")
    assert not path.exists()
    with sqlite3.connect(path) as store:
        store.execute("create table runs (id)")
    told(services.tracking(f"sqlite:///{path}"), "ok", "0 runs")
    path.write_bytes(b"no database" * 100)
    told(services.tracking(f"sqlite:///{path}"), "FAILED", "cannot be opened (file is not a database)")
    told(services.tracking("postgresql://db/mlflow"), "warning", "postgresql is not checked")


def test_judges_without_their_weights_or_their_server_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    told(examine(lambda: services.judge("hpsv2", {}, False)), "FAILED", "`python -m gold_metrics weights fetch hpsv2`")
    told(services.judge("hpsv2", {}, True), "warning", "which is not on this machine", "bench.judge")
    url = f"http://127.0.0.1:{closed_port()}"
    told(examine(lambda: services.judge("image_reward", {"url": url}, False)), "FAILED", f"no answer from {url}")
    told(examine(lambda: services.judge("unified_reward", {"base_url": url}, False)), "FAILED", f"no answer from {url}")


def test_a_judges_weights_that_were_changed_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weight,) = WEIGHTS["hpsv2"]
    file = tmp_path / "snapshots" / ("a" * 40) / weight.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    monkeypatch.setattr("gold_metrics.weights.present", lambda each: file)
    told(services.judge("hpsv2", {}, False), "ok", "here and unchanged: xswu/HPSv2")
    blob = file.with_name("0" * 64)  # the hub names a file by its hash
    file.rename(blob)
    file.symlink_to(blob)
    told(examine(lambda: services.judge("hpsv2", {}, False)), "FAILED", "sha256", "fetch it again")


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Slurm that answers what it is told; no partition is named."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("SBATCH_PARTITION", "PARTITION", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(services, "SLURM_CONF", tmp_path / "slurm.conf")
    monkeypatch.setattr(services, "ENV", tmp_path / "env.sh")

    def answer(*lines: str, code: int = 0) -> None:
        path = tmp_path / "sinfo"
        path.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + f"\nEND\necho 'sinfo: no' >&2; exit {code}\n")
        path.chmod(0o755)

    yield answer


def test_slurm_is_asked_for_the_partition_that_jobs_will_name(
    sinfo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo("cpu*|(null)|20|idle", "h200|gpu:h200:8(S:0-1),lustre:1|2|mixed", "h200|gpu:h200:8|1|down")
    told(services.slurm(0), "ok", "partition cpu: 20 nodes idle")
    told(services.slurm(8), "FAILED", "a node has 0 GPUs, wanted 8", "PARTITION in slurm/env.sh")
    (tmp_path / "env.sh").write_text("echo loaded\nPARTITION=${PARTITION:-h200}\n")
    told(services.slurm(8), "ok", "partition h200: 2 nodes mixed, 1 nodes down; 8 GPUs a node")
    monkeypatch.setenv("SBATCH_PARTITION", "h100")
    told(services.slurm(8), "FAILED", "there is no partition h100; there are cpu, h200")


def test_a_slurm_that_does_not_answer_is_told_from_none(
    sinfo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo(code=1)
    told(services.slurm(0), "ok", "not set up on this machine")
    (tmp_path / "slurm.conf").touch()
    told(services.slurm(0), "FAILED", "sinfo does not answer (sinfo: no)")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    told(services.slurm(0), "ok", "none here")
    monkeypatch.setenv("SBATCH_PARTITION", "h200")
    told(services.slurm(0), "FAILED", "partition h200 is named, but there is no sinfo")
