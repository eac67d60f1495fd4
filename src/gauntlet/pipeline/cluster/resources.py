"""What the job of a cell asks SLURM for: memory, time, a GPU, a partition, and company."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType

from gauntlet.config.grid import Cell
from gauntlet.config.schema import Execution
from gauntlet.pipeline.cluster.partitions import Partition
from gauntlet.pipeline.cluster.queue import Job, after

ON_MODELS = ("train", "evaluate", "certify", "diagnose", "inspect")
"""Stages that compute with a network; they use a GPU where there is one."""

_LIGHT_MB = 2000
_LIGHT_MINUTES = {"prepare": 60, "aggregate": 60, "figure": 15, "table": 15, "report": 15}

_MARGIN = 2.0
"""How much longer a cell may take than the cell that it was estimated from: nodes differ, and are shared."""

_STARTING_MINUTES = 10
"""A start of Snakemake, and the imports, from a file system that may be slow."""

_FIGURES = 12
"""Figures, tables and pages that may share a job: all that hang on one page."""

_GROUPS = {
    "train": "trainings",
    "evaluate": "cells",
    "certify": "cells",
    "diagnose": "cells",
    "inspect": "cells",
    "figure": "figures",
    "table": "figures",
    "report": "figures",
}
"""What short cells of a stage share jobs with; the profile says how many go into one."""

_RULES = {
    "trainings": ("train",),
    "cells": ("evaluate", "shard", "certify", "diagnose", "inspect"),
    "figures": ("figure", "table", "page"),
}
"""The rules whose jobs make the cells of a group."""


@dataclass(frozen=True)
class Asked:
    """The resources of one job, as Snakemake's plugin names them; what is empty is not asked for."""

    mem_mb: int
    runtime: int
    gpu: int = 0
    gpu_model: str = ""
    slurm_partition: str = ""
    slurm_account: str = ""
    slurm_extra: str = ""


RESOURCES = tuple(field.name for field in fields(Asked))
"""The names of what a job asks for."""


class Allocation:
    """Decides for every cell of a run, from the configuration, the partitions, and what is known of durations.

    `seconds` gives what making a cell is known or predicted to take, None if unknown; `shards` how many jobs share its
    work, `gpus` how many GPUs each of them uses, `sharing` how many cells of a group share one. `outlived` are jobs of
    an earlier controller that are still in the queue: a cell's new job starts after the old one, and finds it done.
    """

    def __init__(
        self,
        execution: Execution,
        partitions: Sequence[Partition] = (),
        *,
        seconds: Callable[[Cell], float | None] = lambda cell: None,
        shards: Callable[[Cell], int] = lambda cell: 1,
        gpus: Callable[[Cell], int] = lambda cell: 1,
        sharing: Mapping[str, int] = MappingProxyType({}),
        outlived: Iterable[Job] = (),
    ) -> None:
        self._device, self._asked = execution.device, execution.cluster
        self._partitions, self._seconds, self._shards, self._gpus = tuple(partitions), seconds, shards, gpus
        self._sharing = {"figures": _FIGURES, **sharing}
        self._outlived = tuple(outlived)

    @cached_property
    def uses_gpus(self) -> bool:
        """Whether work on models is given GPUs: they are asked for, or not ruled out and there."""
        if self._device == "auto":
            return self._asked.gpu_partition is not None or any(one.has_gpus for one in self._partitions)
        return self._device.startswith("cuda")

    def of(self, cell: Cell, attempt: int, comment: str = "") -> Asked:
        """Say what the job of a cell asks for at its first, second, … attempt: memory grows evenly, time doubles.

        `comment` is what the plugin will write beside the job.
        """
        on_model = cell.stage in ON_MODELS
        gpu = on_model and self.uses_gpus
        partition = self.partition(gpu=gpu)
        return Asked(
            mem_mb=(self._asked.memory_mb if on_model else _LIGHT_MB) * attempt,
            runtime=min(self._minutes(cell) * 2 ** (attempt - 1), self._longest(cell, partition)),
            gpu=self._gpus(cell) if gpu else 0,
            gpu_model=(self._asked.gpu_model or "") if gpu else "",
            slurm_partition=partition,
            slurm_account=self._asked.account or "",
            slurm_extra=after(self._before(cell, comment)),
        )

    def controller(self) -> Asked:
        """Say what the job of the controller itself asks for."""
        partition = self._asked.controller_partition or self.partition(gpu=False)
        return Asked(
            mem_mb=self._asked.controller_memory_mb,
            runtime=min(self._asked.controller_minutes, self._limit(partition)),
            slurm_partition=partition,
            slurm_account=self._asked.account or "",
        )

    def partition(self, *, gpu: bool) -> str:
        """Name the partition of jobs with or without a GPU; empty for the cluster's default."""
        if not gpu:
            return self._asked.partition or ""
        if self._asked.gpu_partition:
            return self._asked.gpu_partition
        having = [one for one in self._partitions if one.has_gpus]
        if not having or any(one.is_default for one in having):
            return ""
        return max(having, key=lambda one: one.nodes).name

    def group(self, cell: Cell) -> str | None:
        """Name the group whose cells share jobs that a cell belongs to; None for one with a job of its own."""
        longest = self._asked.group_minutes
        if cell.stage in ("figure", "table", "report"):
            return _GROUPS[cell.stage] if longest else None
        if cell.stage not in ON_MODELS or self._shards(cell) > 1 or self._gpus(cell) > 1:
            return None
        seconds = self._seconds(cell)
        expected = self._asked.minutes if seconds is None else seconds / 60
        return _GROUPS[cell.stage] if expected <= longest else None

    def _minutes(self, cell: Cell) -> int:
        seconds = self._seconds(cell)
        if seconds is not None:
            return math.ceil(_MARGIN * seconds / 60 / self._shards(cell)) + _STARTING_MINUTES
        return _LIGHT_MINUTES.get(cell.stage, self._asked.minutes)

    def _longest(self, cell: Cell, partition: str) -> int:
        """Give the time that a cell may ask for; the times of cells that share a job are added."""
        shortest = min(self._asked.max_minutes or sys.maxsize, self._limit(partition))
        return max(1, shortest // self._sharing.get(self.group(cell) or "", 1))

    def _limit(self, partition: str) -> int:
        """Give a partition's limit, in minutes: SLURM leaves a job that asks for more in the queue for ever."""
        names = partition.split(",") if partition else [one.name for one in self._partitions if one.is_default]
        limits = (one.minutes for one in self._partitions if one.name in names)
        return min((limit for limit in limits if limit is not None), default=sys.maxsize)

    def _before(self, cell: Cell, comment: str) -> list[Job]:
        """List the jobs of an earlier controller that may be making a cell.

        Which cells are in a group is not written beside its job, and all cells of a group must ask for the same: those
        that share jobs now wait for all jobs on their stages, the others for their own and for those that are shared.
        """
        kind = _GROUPS.get(cell.stage)
        if kind is None:
            return [job for job in self._outlived if job.comment == comment]
        prefixes = (f"rule_{kind}_", *(f"rule_{rule}_" for rule in _RULES[kind] if self.group(cell)))
        return [job for job in self._outlived if job.comment == comment or job.comment.startswith(prefixes)]
