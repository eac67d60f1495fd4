"""Snakemake in forks of a process that has imported it, since the import takes longer than a dry run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli"])


def run_fork(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder; standard output and standard error are returned together as the latter."""
    with tempfile.NamedTemporaryFile("r+") as output:
        process = FORKS.Process(target=_run, args=(list(arguments), folder, dict(environment), output.name))
        process.start()
        process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, "", output.read())


def _run(arguments: list[str], folder: Path, environment: dict[str, str], output: str) -> None:
    with Path(output).open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [str(folder), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    # Loaded already in the process that this one is a fork of, and not in that of the tests.
    from snakemake.cli import main

    main(arguments)
