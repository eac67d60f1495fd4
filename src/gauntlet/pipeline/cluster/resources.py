"""Resources of each cell's SLURM job (memory, time, GPUs, partition), its job group and its dependencies."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType

from gauntlet.config.execution import Execution
from gauntlet.pipeline.cluster.partitions import Partition
from gauntlet.pipeline.cluster.queue import Job, dependency_option
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages.catalog import stages

_LIGHT_MB = 2000

_SAFETY_FACTOR = 2.0
"""Requested time over expected time: nodes differ and are shared."""

_STARTUP_MINUTES = 10
"""Time for a start of Snakemake and the imports, from a file system that may be slow."""

_FIGURES_PER_JOB = 12
"""Figures, tables and pages that may share a job: about as many as one page depends on."""


@dataclass(frozen=True)
class Resources:
    """Resources of one job, as the SLURM plugin names them; an empty value, or None, requests nothing.

    Cells of one job, or of a local run, compute at once as long as their `slot`s are at most `JobResources.slots`.
    """

    mem_mb: int | None
    runtime: int
    gpu: int = 0
    gpu_model: str = ""
    slurm_partition: str = ""
    slurm_account: str = ""
    slurm_extra: str = ""
    constraint: str | None = None
    qos: str | None = None
    gres: str = ""
    slot: int = 1


RESOURCE_NAMES = tuple(field.name for field in fields(Resources))


class JobResources:
    """Resources and job group of every cell, from the configuration, the partitions and known durations.

    `seconds` returns the known or predicted duration of a cell (None if unknown), `shards` the number of jobs that
    share its work, `gpus` the GPUs of each of them. `group_sizes` are the cells per job of each job group.
    `earlier_jobs` are jobs of an earlier controller that are still in the queue: a cell's new job starts after its old
    one and finds the cell done. `defaults` are values for resources that the configuration does not set.
    `local_gpu` states whether the cells of a local run compute on a GPU; None for jobs. `computes` returns whether a
    cell's job computes with a network.
    """

    def __init__(
        self,
        execution: Execution,
        partitions: Sequence[Partition] = (),
        *,
        seconds: Callable[[Cell], float | None] = lambda cell: None,
        shards: Callable[[Cell], int] = lambda cell: 1,
        gpus: Callable[[Cell], int] = lambda cell: 1,
        group_sizes: Mapping[str, int] = MappingProxyType({}),
        earlier_jobs: Iterable[Job] = (),
        defaults: Mapping[str, str] = MappingProxyType({}),
        local_gpu: bool | None = None,
        computes: Callable[[Cell], bool] = lambda cell: cell.stage.uses_model,
    ) -> None:
        self._device, self._cluster = execution.device, execution.cluster
        self._partitions, self._seconds, self._shards, self._gpus = tuple(partitions), seconds, shards, gpus
        self._group_sizes = {"figures": _FIGURES_PER_JOB, **group_sizes}
        self._earlier_jobs = tuple(earlier_jobs)
        self._defaults, self._local_gpu, self._computes = defaults, local_gpu, computes
        self.slots = self._cluster.cells_per_gpu
        options = [option.removeprefix("--").partition("=") for option in self._cluster.sbatch]
        self._options = {name: value for name, _, value in options}

    @cached_property
    def uses_gpus(self) -> bool:
        """True if stages that compute with a network request GPUs."""
        if self._device == "auto":
            has_gpus = any(partition.has_gpus and not partition.is_hidden for partition in self._partitions)
            return self._cluster.gpu_partition is not None or has_gpus
        return self._device.startswith("cuda")

    def of(self, cell: Cell, attempt: int, comment: str = "") -> Resources:
        """Return the resources of a cell's job at attempt 1, 2, …: memory grows linearly, time doubles.

        `comment` is the job comment that the plugin will write.
        """
        on_model = self._computes(cell)
        gpu = on_model and self.uses_gpus
        partition, memory = self.partition(gpu=gpu), self._cluster.memory_mb
        model, is_shared = (self._cluster.gpu_model or "") if gpu else "", self._shares_gpu(cell)
        extra = [dependency_option(self._dependencies(cell, comment)), *self._extra_options()]
        return Resources(
            mem_mb=None if memory is None else (memory if on_model else _LIGHT_MB) * attempt,
            runtime=min(self._minutes(cell) * 2 ** (attempt - 1), self._max_minutes(cell, partition)),
            gpu=self._gpus(cell) if gpu and not is_shared else 0,
            gpu_model="" if is_shared else model,
            slurm_partition=partition,
            slurm_account=self._account,
            slurm_extra=" ".join(filter(None, extra)),
            constraint=self._options.get("constraint", self._defaults.get("constraint")),
            qos=self._options.get("qos", self._defaults.get("qos")),
            # Numbers are added up over the cells that compute at once, text is not: these share one GPU.
            gres=":".join(filter(None, ("gpu", model, "1"))) if is_shared else "",
            slot=self._slot(cell),
        )

    def of_controller(self) -> Resources:
        """Return the resources of the controller's own job."""
        partition = self._cluster.controller_partition or self.partition(gpu=False)
        return Resources(
            mem_mb=None if self._cluster.memory_mb is None else self._cluster.controller_memory_mb,
            runtime=min(self._cluster.controller_minutes, self._time_limit(partition)),
            slurm_partition=partition,
            slurm_account=self._account,
        )

    @property
    def options(self) -> Mapping[str, str]:
        """The options of `sbatch` that the configuration passes on, without dashes; a flag's value is empty."""
        return MappingProxyType(self._options)

    @property
    def _account(self) -> str:
        return self._cluster.account or self._defaults.get("slurm_account", "")

    def _extra_options(self) -> list[str]:
        """List the options of `sbatch` that the plugin has no resource for, quoted for a shell."""
        passed_on = [name for name in self._options if name not in ("constraint", "qos")]
        words = [f"--{name}={value}" if (value := self._options[name]) else f"--{name}" for name in passed_on]
        return [*map(_quoted, words), self._defaults.get("slurm_extra", "")]

    def partition(self, *, gpu: bool) -> str:
        """Return the partition of jobs with or without a GPU; empty for the cluster's default."""
        default = self._defaults.get("slurm_partition", "")
        if not gpu:
            return self._cluster.partition or default
        if self._cluster.gpu_partition or default:
            return self._cluster.gpu_partition or default
        gpu_partitions = [partition for partition in self._partitions if partition.has_gpus and not partition.is_hidden]
        if not gpu_partitions or any(partition.is_default for partition in gpu_partitions):
            return ""
        return max(gpu_partitions, key=lambda partition: (partition.is_up, partition.nodes)).name

    def group(self, cell: Cell) -> str | None:
        """Return the job group of a cell; None for a cell that has a job to itself."""
        longest = self._cluster.group_minutes
        if cell.stage.group is None or self._shards(cell) > 1 or self._gpus(cell) > 1:
            return None
        if cell.stage.uses_model and not self._computes(cell):
            # Cells of a group that depend on each other share one job, which must ask for the same partition.
            return None
        if not cell.stage.uses_model:
            return cell.stage.group if longest else None
        seconds = self._seconds(cell)
        expected = self._cluster.minutes if seconds is None else seconds / 60
        return cell.stage.group if expected <= longest else None

    def _shares_gpu(self, cell: Cell) -> bool:
        """Return whether a cell computes on a GPU of a job side by side with others."""
        return self.slots > 1 and self.uses_gpus and self._computes(cell) and self.group(cell) is not None

    def _slot(self, cell: Cell) -> int:
        """Return how many of `slots` a cell takes: all of a job's, unless it shares the job's GPU.

        In a local run only cells on the machine's GPU take any.
        """
        if self._local_gpu is None:
            return 1 if self._shares_gpu(cell) else self.slots
        if not (self._local_gpu and self._computes(cell)):
            return 0
        return 1 if self._gpus(cell) == 1 else self.slots

    def _minutes(self, cell: Cell) -> int:
        # Should the GPU have nothing idle, cells side by side take as long as one after another.
        factor, seconds = self.slots if self._shares_gpu(cell) else 1, self._seconds(cell)
        if seconds is not None:
            return math.ceil(_SAFETY_FACTOR * factor * seconds / 60 / self._shards(cell)) + _STARTUP_MINUTES
        if cell.stage.uses_model and not self._computes(cell):
            return _STARTUP_MINUTES
        return factor * (cell.stage.minutes or self._cluster.minutes)

    def _max_minutes(self, cell: Cell, partition: str) -> int:
        """Return the longest time that a cell may request; Snakemake adds the times of a group job's cells."""
        limit = min(self._cluster.max_minutes or sys.maxsize, self._time_limit(partition))
        size = self._group_sizes.get(self.group(cell) or "", 1)
        return max(1, limit // (math.ceil(size / self.slots) if self._shares_gpu(cell) else size))

    def _time_limit(self, partition: str) -> int:
        """Return a partition's limit in minutes: SLURM never starts a job that requests more."""
        names = partition.split(",") if partition else [other.name for other in self._partitions if other.is_default]
        limits = (other.max_minutes for other in self._partitions if other.name in names)
        return min((limit for limit in limits if limit is not None), default=sys.maxsize)

    def _dependencies(self, cell: Cell, comment: str) -> list[Job]:
        """List the jobs of an earlier controller that may be running a cell.

        A group job's comment does not name its cells, and all cells of a group must request the same: a cell in a group
        waits for all jobs of the group's stages, any other cell for its own job and for group jobs.
        """
        group = cell.stage.group
        if group is None:
            return [job for job in self._earlier_jobs if job.comment == comment]
        prefixes = (f"rule_{group}_", *(f"rule_{rule}_" for rule in _rules_of(group) if self.group(cell)))
        return [job for job in self._earlier_jobs if job.comment == comment or job.comment.startswith(prefixes)]


def _quoted(option: str) -> str:
    """Quote an option for a shell, always: the plugin searches the text for options of its own that are not quoted."""
    return "'" + option.replace("'", "'\"'\"'") + "'"


def _rules_of(group: str) -> list[str]:
    """List the rules whose jobs make the cells of a group."""
    return [rule for stage in stages() if stage.group == group for rule in stage.rules]
