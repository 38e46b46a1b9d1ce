"""What a run asks elsewhere: judges, the tracking store, Slurm. Only servers that the settings name are asked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from bench import addresses, rewards, sample
from bench.config import Config
from bench.doctor.finding import Finding, failed, ok, warning
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.weights import WEIGHTS, WeightsError, locate

ENV = Path(__file__).parents[2] / "slurm" / "env.sh"
SLURM_CONF = Path("/etc/slurm/slurm.conf")
PATIENCE = 10.0  # seconds, our choice: for a server that only has to say that it is there
CATCH_UP = "runs go on without it, and `python -m bench.ledger import RUNS` makes up for it"


def judge(name: str, options: dict[str, Any], later: bool) -> Finding:
    """Whether a full-size judge has its weights, unchanged, or its server; one that judges `later` may lack them."""
    try:
        return ok(_judge(name, options))
    except (WeightsError, JudgeServerError) as error:
        if later:
            return warning(str(error), "the runs leave it to `python -m bench.judge`")
        raise


def _judge(name: str, options: dict[str, Any]) -> str:
    if "url" in options or name not in WEIGHTS:
        sample.check_servers([rewards.full_size(name, options)])
        return f"{options.get('url') or options.get('base_url') or 'it'} is ready"
    return f"its weights are here and unchanged: {', '.join(locate(name))}"


def tiny_judges(settings: Config) -> Finding:
    """Whether all judges of the little world load; they come with the package."""
    scorers = sample.judges(settings)
    sample.check_servers(scorers)
    return ok(f"{', '.join(scorer.name for scorer in scorers)} load")


def tracking(uri: str | None) -> Finding:
    """Whether the MLflow store can be opened, or its server answers.

    Raises:
        LedgerError: the address holds a password.
    """
    if not uri:
        return ok("none asked for (tracking=null)")
    addresses.check(uri)
    address = urlsplit(uri)
    if address.scheme == "sqlite":
        return _database(Path(uri.removeprefix("sqlite:///")))
    if address.scheme not in ("http", "https"):
        return warning(f"a store of the kind {address.scheme or 'file'} is not checked", CATCH_UP)
    shown = f"{address.scheme}://{address.hostname}" + (f":{address.port}" if address.port else "")
    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE)
    except httpx.HTTPError as error:
        return failed(f"no answer from {shown} ({type(error).__name__})", f"start it, or set tracking=; {CATCH_UP}")
    if answer.status_code != httpx.codes.OK:
        return failed(f"{shown}/health answers {answer.status_code}", f"is it an MLflow server? {CATCH_UP}")
    return ok(f"{shown} answers")


def _database(path: Path) -> Finding:
    if not path.exists():
        return ok(f"{path} is yet to be made")
    try:
        store = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=PATIENCE)
        try:
            (count,) = store.execute("select count(*) from runs").fetchone()
        finally:
            store.close()
    except sqlite3.Error as error:
        return failed(f"{path} cannot be opened ({error})", f"move it away; {CATCH_UP}")
    return ok(f"{path}: {count} runs")


def slurm(gpus: int) -> Finding:
    """Whether Slurm answers, and has the partition that slurm/env.sh or SBATCH_PARTITION names, with enough GPUs."""
    wanted = partition()
    if not shutil.which("sinfo"):
        return (
            failed(f"partition {wanted} is named, but there is no sinfo", "load Slurm") if wanted else ok("none here")
        )
    done = subprocess.run(["sinfo", "-h", "-o", "%P|%G|%D|%T"], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        if not (wanted or os.environ.get("SLURM_CONF") or SLURM_CONF.exists()):
            return ok("not set up on this machine; only slurm/ needs it")
        return failed(
            f"sinfo does not answer ({_last(done.stderr)})", "ask whoever runs the cluster, or see SLURM_CONF"
        )
    return _partition(wanted, [line.split("|") for line in done.stdout.splitlines()], gpus)


def _partition(wanted: str, lines: list[list[str]], gpus: int) -> Finding:
    names = {name.rstrip("*"): name.endswith("*") for name, *_ in lines}
    chosen = wanted or next((name for name, default in names.items() if default), "")
    if chosen not in names:
        missing = f"there is no partition {chosen}" if chosen else "no partition is the default"
        return failed(f"{missing}; there are {', '.join(names) or 'none'}", "set PARTITION in slurm/env.sh")
    nodes = [(gres, int(count), state) for name, gres, count, state in lines if name.rstrip("*") == chosen]
    most = max(_gpus_of(gres) for gres, _, _ in nodes)
    text = f"partition {chosen}: " + ", ".join(f"{count} nodes {state}" for _, count, state in nodes)
    if most < gpus:
        return failed(f"{text}; a node has {most} GPUs, wanted {gpus}", "set PARTITION in slurm/env.sh, or share less")
    return ok(f"{text}; {most} GPUs a node")


def _gpus_of(resources: str) -> int:
    """GPUs in a list as sinfo prints it: gpu:8(S:0-1), gpu:h200:8, (null)."""
    kinds = [each.partition("(")[0].split(":") for each in resources.split(",")]
    return sum(int(kind[-1]) for kind in kinds if kind[0] == "gpu" and kind[-1].isdigit())


def partition() -> str:
    """What jobs ask for: `SBATCH_PARTITION`, or what slurm/env.sh sets; empty for the default."""
    named = os.environ.get("SBATCH_PARTITION", "")
    if named or not ENV.exists():
        return named
    command = ["bash", "-c", '. "$1" >&2; printf %s "${PARTITION:-}"', "bash", str(ENV)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
