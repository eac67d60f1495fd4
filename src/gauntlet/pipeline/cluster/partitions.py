"""SLURM partitions, as `sinfo` lists them, queried once per run."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.pipeline.cluster.commands import find_command, query_rows

PARTITIONS_VARIABLE = "GAUNTLET_PARTITIONS"
"""Holds the output of `sinfo` for the jobs of a run: they must decide as the controller does, and do not query it."""

_HIDDEN = "hidden"
_COLUMNS = 5


@dataclass(frozen=True)
class Partition:
    """A partition; `max_minutes` is its time limit, None without one.

    `is_up` is False while it accepts no jobs, or keeps them waiting. One that `is_hidden` is not for every user, and is
    used only where the configuration names it.
    """

    name: str
    nodes: int
    is_default: bool = False
    has_gpus: bool = False
    max_minutes: int | None = None
    is_up: bool = True
    is_hidden: bool = False


def list_partitions(environment: MutableMapping[str, str] = os.environ) -> tuple[Partition, ...]:
    """List all partitions, hidden ones last; empty if SLURM is not installed.

    Raises GauntletError if SLURM does not answer: jobs would request no GPU, and share none.
    """
    if PARTITIONS_VARIABLE not in environment:
        shown, every = _rows(), _rows("--all")
        names = {name for name, *_ in shown}
        hidden = [[*row, _HIDDEN] for row in every if row[0] not in names]
        environment[PARTITIONS_VARIABLE] = "\n".join("|".join(row) for row in [*shown, *hidden])
    return _merge([line.split("|") for line in environment[PARTITIONS_VARIABLE].splitlines()])


def _rows(*options: str) -> list[list[str]]:
    if find_command("sinfo") is None:
        return []
    rows = query_rows("sinfo", "--noheader", *options, "--format=%P|%a|%D|%l|%G")
    if rows is None:
        raise GauntletError("SLURM does not answer", where="sinfo", remedy="try again when it does")
    return [row for row in rows if len(row) == _COLUMNS]


def require_sbatch() -> None:
    """Raise InputError if jobs cannot be submitted here: Snakemake would retry the submission of every job."""
    if find_command("sbatch") is None:
        remedy = "run this on a host with SLURM installed, or use `--profile local`"
        raise InputError("SLURM is not installed on this host", where="sbatch", remedy=remedy)


def unlisted_partitions(*names: str | None) -> list[str]:
    """List the named partitions (several separated by commas) that `sinfo` does not list, though it lists others.

    `sbatch` may know them: a partition may be shown to some users only.
    """
    known = [partition.name for partition in list_partitions()]
    wanted = (name for names_of_key in names if names_of_key for name in names_of_key.split(","))
    return [name for name in dict.fromkeys(wanted) if known and name not in known]


def _merge(rows: list[list[str]]) -> tuple[Partition, ...]:
    """Merge the rows of each partition: `sinfo` prints one per kind of node."""
    merged: dict[str, Partition] = {}
    for starred_name, availability, nodes, limit, gres, *hidden in rows:
        name = starred_name.rstrip("*")
        previous = merged.get(name, Partition(name, 0))
        merged[name] = Partition(
            name,
            previous.nodes + (int(nodes) if nodes.isdecimal() else 0),
            starred_name.endswith("*"),
            previous.has_gpus or re.search(r"\bgpu\b", gres) is not None,
            parse_minutes(limit),
            is_up=availability == "up",
            is_hidden=bool(hidden),
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
