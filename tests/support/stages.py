"""Stages of an experiment, run one after the other in a single process, so that libraries are loaded once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import pathlib, sys, torch
from gauntlet import cli
from gauntlet.config import load
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.stages.catalog import stages
torch.set_num_threads(1)
experiment, *names = sys.argv[1:]
options = ["--experiment", experiment] if experiment else []
with_cells = {cell.stage for cell in Graph(load([pathlib.Path("config.yaml")])).cells(options[1:] or None)}
for stage in (stage for stage in stages() if stage in with_cells and (not names or stage.name in names)):
    sys.argv = ["gauntlet", "--quiet", stage.command, *options]
    try:
        cli.main()
    except SystemExit as ending:
        if ending.code:
            raise
"""


def run_stages(folder: Path, *names: str, experiment: str = "") -> None:
    """Run some stages, or all stages, of a folder's configuration, or of one experiment of it, in their order."""
    command = [sys.executable, "-c", PROGRAM, experiment, *names]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
