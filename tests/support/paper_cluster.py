"""SLURM commands on paper: `sbatch` records what it is asked for, then rejects the job or runs it at once.

The controller's job, which `gauntlet submit` submits, is recorded and not run.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

SINFO = "cpu*|up|4|7-00:00:00|(null)\ngpu|up|2|1-00:00:00|gpu:a100:4(S:0-1)\n"

_SBATCH = f"""#!{sys.executable} -SE
import json, os, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
script = next((word[len("--wrap="):] for word in words if word.startswith("--wrap=")), None)
if script is None:
    script = sys.stdin.read() if words[-1] == "/dev/stdin" else pathlib.Path(words[-1]).read_text()
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([words, script]) + "\\n")
if error := (here / "rejects").read_text():
    sys.exit(error)
number = len((here / "calls").read_text().splitlines())
if "--parsable" not in words:
    sys.exit(print(f"Submitted batch job {{number}}"))
folder = words[words.index("-D") + 1]
done = subprocess.run(["sh", "-c", script], cwd=folder, env={{**os.environ, "SLURM_JOB_ID": str(number)}},
                      stdout=(here / f"{{number}}.out").open("w"), stderr=subprocess.STDOUT)
name = words[words.index("--job-name") + 1]
with (here / "ended").open("a") as ended:
    ended.write(f"{{number}}|{{'FAILED' if done.returncode else 'COMPLETED'}}\\n")
print(number)
"""


@dataclass(frozen=True)
class PaperCluster:
    """A folder of commands for PATH, and what `sbatch` was asked for."""

    folder: Path

    @property
    def calls(self) -> list[tuple[list[str], list[str]]]:
        """Each call of `sbatch`: its words, and those of its script."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(words, shlex.split(script, comments=True)) for words, script in map(json.loads, lines)]

    @property
    def outputs(self) -> str:
        """The output of the jobs."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.out")))

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the commands first on PATH."""
        return {**os.environ, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}


def paper_cluster(folder: Path, *, rejects: str = "", sinfo: str = SINFO, hidden: str = "") -> PaperCluster:
    """Write the commands into a folder.

    `rejects` is the error of `sbatch`, empty for a cluster that runs jobs. `hidden` are rows of `sinfo --all` only.
    """
    folder.mkdir()
    commands = {
        "sbatch": _SBATCH,
        "sinfo": f"#!/bin/sh\ncat '{folder}/shown'\ncase \"$*\" in *--all*) cat '{folder}/hidden';; esac\n",
        "sacct": f"#!/bin/sh\ncat '{folder}/ended' 2>/dev/null\nexit 0\n",
        **dict.fromkeys(("squeue", "srun", "scancel", "scontrol", "sacctmgr", "sshare"), "#!/bin/sh\n"),
    }
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name, text in (("rejects", rejects), ("shown", sinfo), ("hidden", hidden)):
        (folder / name).write_text(text)
    return PaperCluster(folder)
