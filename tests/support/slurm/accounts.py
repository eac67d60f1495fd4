"""SLURM's accounting, slurmdbd with MariaDB, in the folder of a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.slurm.daemons import SEARCH_PATH, Daemons, listens

NEEDED = ("slurmdbd", "mariadbd")

# Installed with the server; the script that reads it needs programs of a larger package.
TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")

SETTINGS = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=accounts
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""


class Accounts:
    """Database behind a socket that only its owner can reach, and slurmdbd."""

    def __init__(self, daemons: Daemons, port: int, user: str) -> None:
        self._daemons, self._port, self._at = daemons, port, daemons.folder
        settings = self._at / "slurmdbd.conf"
        settings.write_text(SETTINGS.format(folder=self._at, port=port, user=user))
        settings.chmod(0o600)
        self._database = self._at / "database"
        self._database.mkdir(mode=0o700)
        self._options = [
            "--no-defaults",
            f"--user={user}",
            f"--datadir={self._database}",
            "--innodb-log-file-size=8M",
        ]

    def start(self) -> None:
        """Create an empty database; start it and slurmdbd."""
        # One statement a line: that is what it reads at its birth.
        tables = "create database mysql;\nuse mysql;\n" + TABLES.read_text()
        subprocess.run(
            ["mariadbd", *self._options, "--bootstrap"],
            input=tables,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": SEARCH_PATH},
        )
        socket = self._database / "socket"
        self._daemons.start(
            "mariadbd",
            *self._options,
            "--skip-networking",
            "--skip-grant-tables",
            f"--socket={socket}",
            environment=dict(os.environ),
            ready=socket.exists,
        )
        self.resume()

    def resume(self) -> None:
        """Start slurmdbd."""
        environment = {
            **os.environ,
            "SLURM_CONF": str(self._at / "slurm.conf"),
            "MYSQL_UNIX_PORT": str(self._database / "socket"),
        }
        self._daemons.start("slurmdbd", "-D", environment=environment, ready=lambda: listens(self._port))
