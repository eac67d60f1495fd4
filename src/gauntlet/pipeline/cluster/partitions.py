"""SLURM partitions, as `sinfo` lists them, queried once per run."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from gauntlet.core.errors import InputError, nearest
from gauntlet.pipeline.cluster.commands import find_command, run_command

PARTITIONS_VARIABLE = "GAUNTLET_PARTITIONS"
"""Holds the output of `sinfo` for the jobs of a run: they must decide as the controller does, and do not query it."""


@dataclass(frozen=True)
class Partition:
    """A partition; `max_minutes` is its time limit, None without one."""

    name: str
    nodes: int
    is_default: bool = False
    has_gpus: bool = False
    max_minutes: int | None = None


def list_partitions(environment: MutableMapping[str, str] = os.environ) -> tuple[Partition, ...]:
    """List the partitions that accept jobs; empty if SLURM is not installed or does not answer."""
    if PARTITIONS_VARIABLE not in environment:
        result = run_command("sinfo", "--noheader", "--format=%P|%a|%D|%l|%G")
        environment[PARTITIONS_VARIABLE] = result.stdout.strip() if result and result.returncode == 0 else ""
    return _merge([line.split("|") for line in environment[PARTITIONS_VARIABLE].splitlines()])


def require_partitions(*names: str | None) -> None:
    """Check that jobs can be submitted, to each of the named partitions (several separated by commas).

    Raises InputError otherwise: Snakemake would retry the submission of every job.
    """
    if find_command("sbatch") is None:
        remedy = "run this on a host with SLURM installed, or use `--profile local`"
        raise InputError("SLURM is not installed on this host", where="sbatch", remedy=remedy)
    known = [partition.name for partition in list_partitions()]
    for name in (name for names_of_key in names if names_of_key for name in names_of_key.split(",")):
        if known and name not in known:
            where = "execution.cluster"
            raise InputError(f"no partition '{name}' accepts jobs here", where=where, remedy=nearest(name, known))


def _merge(rows: list[list[str]]) -> tuple[Partition, ...]:
    """Merge the rows of each partition: `sinfo` prints one per kind of node."""
    merged: dict[str, Partition] = {}
    for starred_name, availability, nodes, limit, gres in (row for row in rows if len(row) == 5):
        name = starred_name.rstrip("*")
        previous = merged.get(name, Partition(name, 0))
        if availability == "up":
            merged[name] = Partition(
                name,
                previous.nodes + int(nodes),
                starred_name.endswith("*"),
                previous.has_gpus or re.search(r"\bgpu\b", gres) is not None,
                parse_minutes(limit),
            )
    return tuple(merged.values())


def parse_minutes(limit: str) -> int | None:
    """Parse a time limit as SLURM prints it (``[DAYS-]HOURS:MINUTES:SECONDS``) into minutes; None for no limit."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [days or "0", *parts]):
        return None
    hours, minutes, _ = ([0, 0, 0] + [int(part) for part in parts])[-3:]
    return int(days or 0) * 24 * 60 + hours * 60 + minutes
