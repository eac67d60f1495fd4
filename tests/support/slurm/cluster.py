"""A real SLURM of one node with two fake GPUs, in a folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.slurm import accounts
from tests.support.slurm.daemons import SEARCH_PATH, Daemons, free_ports, listens, missing_programs, search_path
from tests.support.slurm.processes import descendants, send, step_daemons, stop_descendants

NEEDED = ("munged", "slurmctld", "slurmd", *accounts.NEEDED)

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
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounts_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
ReturnToService=2
MinJobAge=36000
KillWait=15
BatchStartTimeout=1
SlurmdTimeout=300
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=6 RealMemory=64000 Gres=gpu:2
PartitionName=cpu Nodes={host} Default=YES MaxTime=1440 PriorityTier=1 State=UP
PartitionName=gpu Nodes={host} MaxTime=2880 PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=9 State=UP
"""


def missing_requirements() -> list[str]:
    """List what a cluster needs and this machine lacks."""
    missing = missing_programs(NEEDED)
    return missing if os.geteuid() == 0 else [*missing, "root (a GPU is a device node)"]


READY = ("idle", "mixed", "allocated", "draining", "drained")
"""States of a node whose daemon answers."""


class Cluster:
    """Daemons of a cluster, and commands to it.

    It keeps accounts. Clients that read its settings from `without_accounts` find a cluster
    without accounting.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self._daemons = Daemons(folder)
        for name in ("state", "spool", "unaccounted"):
            (folder / name).mkdir()
        # The null device under another name: SLURM names it to jobs, which do not open it.
        for number in (0, 1):
            os.mknod(folder / f"gpu{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)
        (folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={folder}/gpu[0-1]\n")
        self._port, self._node_port, accounts_port = free_ports(3)
        self.accounts = accounts.Accounts(self._daemons, accounts_port, getpass.getuser())
        settings = SLURM_CONF.format(
            folder=folder,
            host=self.host,
            user=getpass.getuser(),
            controller_port=self._port,
            node_port=self._node_port,
            accounts_port=accounts_port,
        )
        self._node_log = folder / "slurmd.log"
        self.settings = folder / "slurm.conf"
        self.settings.write_text(settings)
        self.without_accounts = folder / "unaccounted" / "slurm.conf"
        self.without_accounts.write_text(settings.replace("accounting_storage/slurmdbd", "accounting_storage/none"))

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the SLURM commands of this cluster."""
        return {**os.environ, "PATH": search_path(), "SLURM_CONF": str(self.settings)}

    def start(self) -> None:
        """Start all daemons and wait until the node is ready."""
        at = self.folder
        munge = [f"--{name}={at}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "log-file")]
        munge += [f"--socket={at}/munge.socket", f"--seed-file={at}/munge.seed"]
        self._daemons.start(
            "munged",
            "--foreground",
            "--force",
            *munge,
            environment=self.environment,
            ready=(at / "munge.socket").exists,
        )
        self.accounts.start()
        for kind in ("cluster test", "account physics", f"user {getpass.getuser()} account=physics"):
            self.run("sacctmgr", "--immediate", "add", *kind.split())
        self._start_controller()
        self.start_node()

    def _start_controller(self) -> None:
        self._daemons.start("slurmctld", "-D", "-i", environment=self.environment, ready=lambda: listens(self._port))

    def start_node(self, *, rebooted: bool = False) -> None:
        """Start the node's daemon, after a reboot if given, and wait until it answers."""

        def answers() -> bool:
            return listens(self._node_port) and self.node_state() in READY

        options = ["-D", "-b"] if rebooted else ["-D"]
        self._daemons.start("slurmd", *options, environment=self.environment, ready=answers)

    def node_state(self) -> str:
        """Return the node's state according to the controller."""
        return self.run("sinfo", "--noheader", "--format=%T", "--partition=cpu", check=False)

    def kill_node(self, *, with_jobs: bool = False) -> None:
        """Kill the node's daemon; processes of jobs go on, or die with it as in a power failure."""
        self._daemons.stop("slurmd", signal.SIGKILL)
        if with_jobs:
            steps = step_daemons(self._node_log)
            send([*steps, *descendants(steps)], signal.SIGKILL)

    def freeze(self, *jobs: str) -> list[str]:
        """Stop the processes of jobs; return the jobs with any, which go on to run until thawed or killed.

        SLURM itself lets processes go on before it ends them.
        """
        return [job for job in jobs if stop_descendants(step_daemons(self._node_log, [job]))]

    def thaw(self, *jobs: str) -> None:
        """Let the processes of frozen jobs go on."""
        send(descendants(step_daemons(self._node_log, jobs)), signal.SIGCONT)

    @contextlib.contextmanager
    def without_answers(self, *commands: str) -> Iterator[None]:
        """Stop the daemon that answers ``sacct``, ``squeue`` or both for a while."""
        if "sacct" in commands:
            self._daemons.stop("slurmdbd")
        if "squeue" in commands:
            self._daemons.stop("slurmctld")
        try:
            yield
        finally:
            if "sacct" in commands:
                self.accounts.resume()
            if "squeue" in commands:
                self._start_controller()
                self._daemons.wait_until(lambda: self.node_state() in READY, "slurmctld")

    def stop(self) -> None:
        """Cancel every job and end the daemons."""
        self.run("scancel", f"--user={getpass.getuser()}", check=False)
        deadline_s = time.monotonic() + 60
        while self.run("squeue", "-h", check=False) and time.monotonic() < deadline_s:
            time.sleep(0.3)
        self._daemons.stop_all()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a SLURM command, not a replacement on a test's PATH; return its output."""
        environment = {**self.environment, "PATH": SEARCH_PATH}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.stderr}")
        return done.stdout.strip()
