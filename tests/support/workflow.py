"""Snakemake in a folder laid out as a clone, with an experiment of seconds."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys

from tests.support import ROOT
from tests.support.snakemake_fork import run_fork
from tests.support.stub_outputs import CONFIG

TINY = copy.deepcopy(CONFIG)
TINY["experiments"]["small"] |= {"seeds": [0], "samples": 20, "training": {"epochs": 1, "batch_size": 256}}
TINY["experiments"]["small"]["variants"].pop("ecc")
TINY["experiments"]["small"]["attacks"].pop("noise")


def link_workflow(folder):
    """Link the workflow next to a configuration, as in a clone."""
    for name in ("workflow", "rules", "profiles", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "local").symlink_to("profiles/local")


def run_snakemake(folder, *arguments, check=True, is_fork=False, timeout_s=1200):
    """Run Snakemake in a folder and return the finished process; a dry run is a fork, and so is one with `is_fork`.

    The virtual environment is not activated.
    """
    command = ["--profile", "local", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if is_fork or "-n" in arguments:
        done = run_fork(command, folder, environment)
    else:
        command = [sys.executable, "-m", "snakemake", *command]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=timeout_s)
    if check and done.returncode:
        logs = "\n".join(path.read_text() for path in folder.glob("logs/**/*.log"))
        raise AssertionError(done.stdout + done.stderr + logs)
    return done


def planned_jobs(folder, *arguments):
    """Count the jobs that a run would start, by rule."""
    shown = run_snakemake(folder, "-n", *arguments)
    table = re.findall(r"^(\w+) +(\d+)$", shown.stdout + shown.stderr, flags=re.MULTILINE)
    return {name: int(count) for name, count in table if name not in ("total", "all", "figures", "models", "quick")}
