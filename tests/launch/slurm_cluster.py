"""A real Slurm cluster of several nodes on this machine: one slurmd a node, no systemd, nothing outside one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")
_CONF = """
ClusterName=roga
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
KillWait=20
MinJobAge=10
MaxArraySize=50
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5,requeue_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can. Slurm is installed if that is possible."""
    if os.geteuid() != 0:
        return "the daemons of Slurm need root"
    if not all(map(shutil.which, _PROGRAMS)) and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]
        subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True)
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class SlurmCluster:
    """A cluster that runs.

    Attributes:
        folder: with its configuration, state and logs.
        nodes: their names.
    """

    def __init__(self, folder: Path, n_nodes: int, n_cpus: int):
        self.folder, self.nodes = folder, [f"n{i}" for i in range(1, n_nodes + 1)]
        ports = _free_ports(1 + n_nodes)
        host = socket.gethostname().split(".")[0]
        lines = [_CONF.format(folder=folder, host=host, ports=ports)]
        lines += [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={n_cpus} RealMemory=2000"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        nodes = ",".join(self.nodes)
        lines += [
            f"PartitionName=main Nodes={nodes} Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30",
            f"PartitionName=urgent Nodes={nodes} State=UP PriorityTier=10 PreemptMode=OFF",
            "",
        ]
        (folder / "state").mkdir()
        (folder / "slurm.conf").write_text("\n".join(lines))
        (folder / "munge.key").write_bytes(os.urandom(1024))
        os.chmod(folder / "munge.key", 0o600)

    def start(self) -> None:
        """Start the daemons; returns when all nodes are idle."""
        names = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
        }
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self.run("munged", "--force", *options, f"--seed-file={self.folder / 'munged.seed'}")
        self.run("slurmctld")
        for node in self.nodes:
            self.start_node(node)
        deadline = time.monotonic() + 30
        while set(self.run("sinfo", "-h", "-N", "-o", "%T").split()) != {"idle"}:
            assert time.monotonic() < deadline, self.run("sinfo", "-N", "-l")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the daemons, and what they run."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("scancel", "--user=root")
        for path in sorted(self.folder.glob("*.pid"), key=lambda path: path.name == "munged.pid"):
            for pid in [int(path.read_text()), *_descendants(int(path.read_text()))]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for pid in self._steps():
            for each in [pid, *_descendants(pid)]:
                with contextlib.suppress(OSError):
                    os.kill(each, signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self.run("slurmd", "-N", node)

    def kill_daemons(self, node: str) -> None:
        """Kill a node's daemon and those of its steps; what the steps run goes on, and nobody watches it."""
        for pid in (*self._steps(node), int((self.folder / f"slurmd-{node}.pid").read_text())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _steps(self, node: str = "*") -> list[int]:
        """The daemons of the steps that run on a node, or on all: they have the node's log open."""
        logs = {str(path) for path in self.folder.glob(f"slurmd-{node}.log")}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_step = (process / "comm").read_text().startswith("slurmstepd")
                if is_step and any(os.readlink(file) in logs for file in (process / "fd").iterdir()):
                    found.append(int(process.name))
        return found

    def run(self, *command: str) -> str:
        """Run a command of Slurm's; its output."""
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(
            command, env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def slurm_cluster(n_nodes: int, n_cpus: int) -> Iterator[SlurmCluster]:
    """A cluster while the block runs; its commands are found through SLURM_CONF, which is set meanwhile."""
    before = os.environ.get("SLURM_CONF")
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        cluster = SlurmCluster(Path(folder), n_nodes, n_cpus)
        os.environ["SLURM_CONF"] = str(cluster.folder / "slurm.conf")
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            if before is None:
                del os.environ["SLURM_CONF"]
            else:
                os.environ["SLURM_CONF"] = before
