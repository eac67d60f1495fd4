"""A real SLURM of one node with two GPUs that are none, in a folder of its own."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
ReturnToService=2
MinJobAge=36000
KillWait=5
SlurmdTimeout=300
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2
PartitionName=cpu Nodes={host} Default=YES MaxTime=1440 PriorityTier=1 State=UP
PartitionName=gpu Nodes={host} MaxTime=2880 PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=9 State=UP
"""


def lacking() -> list[str]:
    """Name what a cluster needs and this machine has not."""
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    missing = [name for name in DAEMONS if shutil.which(name, path=places) is None]
    return missing if os.geteuid() == 0 else [*missing, "root (a GPU is a device node)"]


class Cluster:
    """Starts the daemons, speaks to them, and ends them by their process ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self._daemons: dict[str, subprocess.Popen] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        # The null device under another name: jobs are told which they hold, and open none.
        for number in (0, 1):
            os.mknod(folder / f"gpu{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)
        (folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={folder}/gpu[0-1]\n")
        controller_port, node_port = _free_ports(2)
        settings = SLURM_CONF.format(
            folder=folder,
            host=self.host,
            user=getpass.getuser(),
            controller_port=controller_port,
            node_port=node_port,
        )
        (folder / "slurm.conf").write_text(settings)

    @property
    def environment(self) -> dict[str, str]:
        """What the SLURM commands need to find this cluster."""
        places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
        return {**os.environ, "PATH": places, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start all daemons and wait until the node is ready."""
        at = self.folder
        munge = [f"--{name}={at}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "log-file")]
        self._launch(
            "munged", "--foreground", "--force", f"--socket={at}/munge.socket", f"--seed-file={at}/munge.seed", *munge
        )
        self._until(lambda: (at / "munge.socket").exists(), "munged")
        self._launch("slurmctld", "-D", "-i")
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon and wait until it takes jobs."""
        self._launch("slurmd", "-D")
        self._until(lambda: self.node_state() in ("idle", "mixed"), "slurmd")

    def node_state(self) -> str:
        """Say what the controller thinks of the node."""
        return self.ask("sinfo", "--noheader", "--format=%T", "--partition=cpu", check=False)

    def kill_node(self) -> None:
        """Kill the node's daemon; what its jobs run goes on."""
        daemon = self._daemons.pop("slurmd")
        daemon.kill()
        daemon.wait()

    def stop(self) -> None:
        """Cancel every job and end the daemons."""
        self.ask("scancel", f"--user={getpass.getuser()}", check=False)
        deadline_s = time.monotonic() + 20
        while self.ask("squeue", "-h", check=False) and time.monotonic() < deadline_s:
            time.sleep(0.3)
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str, check: bool = True) -> str:
        """Run a SLURM command; give its output."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.stderr}")
        return done.stdout.strip()

    def _launch(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=self.environment["PATH"])
        with (self.folder / f"{name}.out").open("a") as out:
            self._daemons[name] = subprocess.Popen(
                [str(program), *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _until(self, ready, name: str) -> None:
        deadline_s = time.monotonic() + 30
        while not ready():
            if self._daemons[name].poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"{name} does not come up:\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """What the daemons have to say."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"== {file.name}\n{file.read_text()[-3000:]}" for file in files)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
