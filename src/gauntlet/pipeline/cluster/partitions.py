"""What a cluster offers: its partitions, as `sinfo` lists them, asked once a run."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from gauntlet.core.errors import InputError, nearest
from gauntlet.pipeline.cluster.commands import ask, real

VARIABLE = "GAUNTLET_PARTITIONS"
"""What `sinfo` said, handed on to the jobs: they must come to the same decisions, and are many."""


@dataclass(frozen=True)
class Partition:
    """A partition; `minutes` is the longest that a job may ask for, None if any time."""

    name: str
    nodes: int
    is_default: bool = False
    has_gpus: bool = False
    minutes: int | None = None


def partitions(environment: MutableMapping[str, str] = os.environ) -> tuple[Partition, ...]:
    """List the partitions that take jobs; empty where there is no SLURM, or it does not answer."""
    if VARIABLE not in environment:
        done = ask("sinfo", "--noheader", "--format=%P|%a|%D|%l|%G")
        environment[VARIABLE] = done.stdout.strip() if done and done.returncode == 0 else ""
    return _merged([line.split("|") for line in environment[VARIABLE].splitlines()])


def require(*names: str | None) -> None:
    """Make sure that jobs can be submitted, to each of the named partitions (several parted by commas).

    Raises InputError where not: each job would be tried as often as one that fails.
    """
    if real("sbatch") is None:
        remedy = "go where SLURM's commands are, or use `--profile local`"
        raise InputError("there is no SLURM here", where="sbatch", remedy=remedy)
    known = [one.name for one in partitions()]
    for name in (one for several in names if several for one in several.split(",")):
        if known and name not in known:
            where = "execution.cluster"
            raise InputError(f"no partition '{name}' takes jobs here", where=where, remedy=nearest(name, known))


def _merged(lines: list[list[str]]) -> tuple[Partition, ...]:
    """Make one partition of its lines: one for each kind of node."""
    found: dict[str, Partition] = {}
    for starred, state, nodes, limit, gres in (line for line in lines if len(line) == 5):
        name = starred.rstrip("*")
        before = found.get(name, Partition(name, 0))
        if state == "up":
            found[name] = Partition(
                name,
                before.nodes + int(nodes),
                starred.endswith("*"),
                before.has_gpus or re.search(r"\bgpu\b", gres) is not None,
                minutes(limit),
            )
    return tuple(found.values())


def minutes(limit: str) -> int | None:
    """Read a time limit as SLURM prints it (``[DAYS-]HOURS:MINUTES:SECONDS``); None for no limit."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [days or "0", *parts]):
        return None
    hours, whole, _ = ([0, 0, 0] + [int(part) for part in parts])[-3:]
    return int(days or 0) * 24 * 60 + hours * 60 + whole
