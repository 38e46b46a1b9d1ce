"""A real Slurm on this machine: one controller, two emulated nodes of eight pretend GPUs, all under one folder.

No munge, no cgroups, no accounting, and no root: the daemons run as whoever runs the tests. Several may coexist.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
GPUS = 8  # of a node
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")
POLL = 0.1  # seconds

# cred_expire is also how long a requeued job waits (man slurm.conf; 5 s is the least that takes effect), MinJobAge
# keeps ended jobs visible, and without linuxproc Slurm asks for a cgroup hierarchy that a container lacks.
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
MessageTimeout=60
MinJobAge=3600
FirstJobId={first}
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=64 RealMemory=20000 Gres=gpu:{gpus}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 RealMemory=20000 Gres=gpu:{gpus}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """The programs of Slurm that are not installed, for a skip's reason; empty where all are."""
    paths = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return ", ".join(name for name in PROGRAMS if not shutil.which(name, path=paths))


@dataclass
class Cluster:
    """A running Slurm; `environment` is what its commands need."""

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
        """What a command of Slurm prints.

        Raises:
            AssertionError: it failed; with what it said.
        """
        environment = self.environment | variables
        done = subprocess.run(arguments, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def sbatch(self, *arguments: str, cwd: Path | None = None, **variables: str) -> int:
        """Submits a job; returns its number."""
        return int(self.command("sbatch", "--parsable", *arguments, cwd=cwd, **variables))

    def states(self, job: int) -> list[str]:
        """The state of a job, or of each task of an array in their order; also of what has ended."""
        asked = ("squeue", "--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%K %T")
        found = [line.split() for line in self.command(*asked).splitlines()]
        return [state for _, state in sorted(found, key=lambda row: row[0].zfill(9))]

    def ended(self, job: int) -> bool:
        """Whether every task of a job has come to its end."""
        return all(state in ENDED for state in self.states(job))

    def wait(self, done: Callable[[], object], seconds: float = 300) -> None:
        """Until `done` is true.

        Raises:
            AssertionError: it is not, after so many seconds; with what Slurm does.
        """
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.command("squeue", "--states=all")
            time.sleep(POLL)

    def processes(self) -> Iterator[psutil.Process]:
        """Every process that this Slurm started, found by the configuration in its environment."""
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # Not by psutil's environ(), which stops at the title that slurmstepd writes over its own.
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    yield process


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A Slurm with two idle nodes, its files in `folder`; nothing of it is left running.

    Raises:
        AssertionError: the nodes do not come up; with the controller's log.
    """
    paths = os.environ["PATH"] + ":/usr/sbin:/sbin"
    started = Cluster(folder, dict(os.environ) | {"SLURM_CONF": str(configure(folder)), "PATH": paths})
    try:
        started.daemons.append(_daemon(started, "slurmctld"))
        started.daemons += [_daemon(started, "slurmd", "-N", node) for node in NODES]
        _await_nodes(started)
        yield started
    finally:
        stop(started)


def configure(folder: Path) -> Path:
    """Writes slurm.conf and gres.conf and makes the pretend GPUs; returns the path of the first."""
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
    for index in range(GPUS):
        _pretend_gpu(folder / f"gpu{index}")
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    # Ports of ranks follow from job numbers: two clusters should not number alike.
    values = {
        "host": socket.gethostname().split(".")[0],
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "ports": _free_ports(3),
    }
    text = CONF.format(folder=folder, gpus=GPUS, first=random.SystemRandom().randrange(1, 60000), **values)
    (folder / "slurm.conf").write_text(text)
    return folder / "slurm.conf"


def stop(started: Cluster) -> None:
    """Ends the daemons, then whatever they started, also what was about to start as they ended."""
    for daemon in started.daemons:
        daemon.kill()
        daemon.wait(10)
    while left := list(started.processes()):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)


def _pretend_gpu(path: Path) -> None:
    """A device where root makes it, as CUDA_VISIBLE_DEVICES then is filled; else a file, which is scheduled alike."""
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))
    except PermissionError:
        path.touch()


def _daemon(started: Cluster, *command: str) -> subprocess.Popen[bytes]:
    output = (started.folder / f"{'-'.join(command)}.out").open("wb")
    environment: Mapping[str, str] = started.environment
    with output:
        return subprocess.Popen([command[0], "-D", *command[1:]], env=environment, stdout=output, stderr=output)


def _await_nodes(started: Cluster) -> None:
    def idle() -> bool:
        asked = ["sinfo", "--noheader", "--Node", "--format=%T"]
        found = subprocess.run(asked, env=started.environment, capture_output=True, text=True)
        return found.stdout.split() == ["idle"] * len(NODES)

    deadline = time.monotonic() + 30
    while not idle():
        log = started.folder / "slurmctld.log"
        assert time.monotonic() < deadline, f"Slurm did not start: {log.read_text()[-2000:] if log.exists() else log}"
        time.sleep(POLL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
