"""Snakemake that polls its jobs every two seconds; the plugin's interval grows while no job ends."""

from __future__ import annotations

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

PAUSE_S = 2

Executor.next_seconds_between_status_checks = property(lambda self: PAUSE_S, lambda self, seconds: None)

if __name__ == "__main__":
    main()
