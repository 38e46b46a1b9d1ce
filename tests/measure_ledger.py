"""Many processes write one MLflow store at once, each by the mirror that a run has: `python tests/measure_ledger.py`.

Every update of every process is sent by itself, as no run does it, which sends those of a whole evaluation interval.
Afterwards the points in the store are counted. The cost of an update beside training is told for `sd3_flow_text` at
paper scale on eight GPUs, whose seconds are `bench.plan`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ledger
from bench.ledger.store import EXPERIMENT
from bench.record import Record

ROW, GPUS = "sd3_flow_text", 8
LIMIT = 0.01  # of an update at paper scale; what the mirror may cost
ALONE = 20  # updates, of a writer whose cost is measured; our choice: the first opens the store and is dear


@dataclass(frozen=True)
class Writer:
    """What one process did: updates and points sent, its slowest call, seconds and processor seconds in all calls."""

    updates: int
    points: int
    slowest: float
    seconds: float
    processor: float
    error: str = ""


def write(uri: str, folder: Path, keys: int, pause: float, until: float, updates: int, said: Any) -> None:
    """Logs updates of `keys` numbers and mirrors each, `pause` seconds apart, till `until` or for `updates`."""
    record, done, times, processor = Record(folder), 0, [0.0], time.process_time()
    record.begin({"row": ROW, "seed": 0, "suite": "measured"})
    record.status("finished", 0, 0)
    error = ""
    try:
        while done < updates and time.time() < until:
            line = {f"ratio/{key:03d}": done + key / keys for key in range(keys)}
            record.append("metrics", {"update": done, "epoch": done} | line)
            began = time.perf_counter()
            ledger.mirror(ledger.read(folder), uri)
            times.append(time.perf_counter() - began)
            done += 1
            time.sleep(pause)
    except Exception as caught:
        error = repr(caught)
    said.put(Writer(done, done * keys, max(times), sum(times), time.process_time() - processor, error))


def together(
    uri: str, runs: Path, writers: int, keys: int, *, pause: float = 0.0, seconds: float = 3600.0, updates: int = 10**9
) -> list[Writer]:
    """What `writers` processes did that wrote at once, forked from this one, which must not have opened the store."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # once for all of them

    context = multiprocessing.get_context("fork")
    said, until = context.SimpleQueue(), time.time() + seconds
    folders = [runs / f"row{index}/seed0" for index in range(writers)]
    processes = [
        context.Process(target=write, args=(uri, folder, keys, pause, until, updates, said)) for folder in folders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [said.get() for _ in processes]


def counted(uri: str) -> tuple[int, int]:
    """Points of all runs in a store, and how many of them are not what they should be or there twice."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    found, wrong = 0, 0
    for run in client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]):
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            share = int(name.removeprefix("ratio/")) / len(run.data.metrics)
            found += len(history)
            wrong += len(history) - len({m.step for m in history if m.value == m.step + share})
    return found, wrong


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of an `mlflow server` on a store in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (folder / "server.txt").open("w")
    process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"{uri}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlflow server did not start: {(folder / 'server.txt').read_text()[-500:]}")
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        log.close()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def seconds_of_update() -> float:
    """Of `ROW` at paper scale on `GPUS`, as planned."""
    from bench.costs import UTILISATION
    from bench.plan import plans_of

    (planned,) = plans_of([f"row={ROW}"], UTILISATION, GPUS)
    return planned.hours * 3600 / GPUS / planned.updates


def report(did: list[Writer], alone: Writer, found: int, wrong: int, of_update: float) -> tuple[str, bool]:
    """What was measured, and whether nothing is missing and `alone` cost less than `LIMIT` of `of_update` seconds."""
    everyone = [*did, alone]
    errors, sent = [each.error for each in everyone if each.error], sum(each.points for each in everyone)
    lines = [
        f"{len(did)} writers at once and one alone: {sent:,} points sent, {found:,} found, {wrong} wrong, "
        f"{len(errors)} errors; slowest call {max(each.slowest for each in everyone):.2f} s",
        *(cost(each, name, of_update) for each, name in ((sum_of(did), "at once"), (alone, "alone"))),
        *errors,
    ]
    return "\n".join(lines), not errors and not wrong and found == sent and per_update(alone) < LIMIT * of_update


def per_update(did: Writer) -> float:
    return did.seconds / max(did.updates, 1)


def sum_of(did: list[Writer]) -> Writer:
    """All writers as one."""
    of = {key: sum(getattr(each, key) for each in did) for key in ("updates", "points", "seconds", "processor")}
    return Writer(slowest=max(each.slowest for each in did), **of)


def cost(did: Writer, name: str, of_update: float) -> str:
    return (
        f"{name}: {did.updates:,} updates of {did.points / max(did.updates, 1):.0f} keys, "
        f"{per_update(did) * 1e3:.0f} ms each ({did.processor / max(did.updates, 1) * 1e3:.0f} ms of a processor): "
        f"{per_update(did) / of_update:.2%} of the {of_update:.0f} s of an update of {ROW} at paper scale on "
        f"{GPUS} GPUs"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--keys", type=int, default=200, help="numbers an update logs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=0, help="seconds between a writer's updates")
    parser.add_argument("--http", action="store_true", help="to an mlflow server, else to its sqlite file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        runs = Path(name)
        uri = stack.enter_context(server(runs)) if args.http else f"sqlite:///{runs}/mlflow.db"
        did = together(uri, runs, args.writers, args.keys, pause=args.pause, seconds=args.seconds)
        (alone,) = together(uri, runs / "alone", 1, args.keys, updates=ALONE)
        text, good = report(did, alone, *counted(uri), seconds_of_update())
    print(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
