"""What is run as `sacct` by Snakemake's plugin: its question after all jobs of a run is answered by both witnesses.

The plugin takes the command from PATH, so that this needs no change of it. Every other question goes to SLURM's own
`sacct`, and one that this refuses is answered by nothing, as where no accounts are kept.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gauntlet.core.files import write_json
from gauntlet.pipeline.cluster.commands import ask
from gauntlet.pipeline.cluster.job_states import ask_both, judge

MEMORY = Path(".snakemake/slurm_states")
"""How often jobs were looked for in vain, a file a run, in the folder that the controller works in."""


def main(arguments: Sequence[str]) -> int:
    """Answer one call of `sacct`; the exit code is 0 whatever happens, since another one loses every job."""
    try:
        sys.stdout.write(_answer(arguments))
    except Exception:  # Whatever it is: no answer is better than a refusal.
        traceback.print_exc()
    return 0


def _answer(arguments: Sequence[str]) -> str:
    run = run_asked_for(arguments)
    if run is None:
        done = ask("sacct", *arguments)
        return done.stdout if done and done.returncode == 0 else ""
    memory = MEMORY / f"{run}.json"
    told, unseen = judge(ask_both(run), _remembered(memory))
    with suppress(OSError):
        write_json(memory, unseen)
    return "".join(f"{job}|{state}\n" for job, state in told.items())


def run_asked_for(arguments: Sequence[str]) -> str | None:
    """Name the run whose jobs' states are asked for; None where something else is asked."""
    options = " ".join(arguments).replace("=", " ").split()
    asks_states = "--format" in options and options[options.index("--format") + 1].lower() == "jobidraw,state"
    return options[options.index("--name") + 1] if asks_states and "--name" in options else None


def _remembered(memory: Path) -> dict[str, int]:
    try:
        return {str(job): int(count) for job, count in json.loads(memory.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
