"""The `sacct` that Snakemake's SLURM plugin calls: job states of a run from both `squeue` and SLURM's `sacct`.

The plugin finds the command on PATH, so it needs no change. Every other query is passed on to SLURM's own `sacct`; if
that fails, nothing is printed, as on a cluster without accounting.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import write_json
from gauntlet.pipeline.cluster.commands import run_command
from gauntlet.pipeline.cluster.job_states import merge_states, query_states

MISSES_FOLDER = Path(".snakemake/slurm_states")
"""Folder of one JSON file per run with the misses of each job, in the controller's working folder."""


def main(arguments: Sequence[str]) -> int:
    """Answer one call of `sacct`. Always return 0: after any other exit code the plugin forgets every job."""
    try:
        sys.stdout.write(_answer(arguments))
    except Exception:  # An empty answer makes the plugin wait; a failure makes it lose its jobs.
        traceback.print_exc()
    return 0


def _answer(arguments: Sequence[str]) -> str:
    run = requested_run(arguments)
    if run is None:
        result = run_command("sacct", *arguments)
        return result.stdout if result and result.returncode == 0 else ""
    misses_file = MISSES_FOLDER / f"{run}.json"
    states, misses = merge_states(query_states(run), _read_misses(misses_file))
    with suppress(OSError, GauntletError):
        write_json(misses_file, misses)
    return "".join(f"{job}|{state}\n" for job, state in states.items())


def requested_run(arguments: Sequence[str]) -> str | None:
    """Return the name of the run whose job states are queried; None for any other query."""
    options = " ".join(arguments).replace("=", " ").split()
    is_state_query = "--format" in options and options[options.index("--format") + 1].lower() == "jobidraw,state"
    return options[options.index("--name") + 1] if is_state_query and "--name" in options else None


def _read_misses(path: Path) -> dict[str, int]:
    # Without pydantic, whose import would take longer than the queries.
    try:
        return {str(job): int(count) for job, count in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
