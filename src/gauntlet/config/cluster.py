"""The schema of SLURM resources."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from gauntlet.config.base import Closed
from gauntlet.config.components import refuse
from gauntlet.registry import PositiveInt

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@+-]+$")]
"""Name of an account or a partition, or several separated by commas; it becomes part of a command."""

_KEYS_OF_OPTIONS = {
    "account": "`account`",
    "partition": "`partition`, `gpu_partition` or `controller_partition`",
    "mem": "`memory_mb`",
    "mem-per-cpu": "`memory_mb`",
    "mem-per-gpu": "`memory_mb`",
    "time": "`minutes` or `max_minutes`",
    "gres": "`gpu_model`",
    "gpus": "`gpu_model`",
    "gpus-per-node": "`gpu_model`",
    "gpus-per-task": "`gpu_model`",
}
"""Options of `sbatch` that have a key of their own, and the keys, in words."""

_OWN_OPTIONS = (
    *("array", "chdir", "clusters", "comment", "dependency", "error", "export", "job-name", "output", "parsable"),
    *("cpus-per-gpu", "cpus-per-task", "nodes", "ntasks", "ntasks-per-gpu", "ntasks-per-node"),
    *("no-requeue", "requeue", "signal", "test-only", "wait", "workdir", "wrap"),
)
"""Options of `sbatch` that every job is submitted with, or that would keep the run from seeing its jobs."""


def _option_problem(text: str) -> str | None:
    """Return a message if an option of `sbatch` cannot be passed on; None if it can."""
    if not re.fullmatch(r"--[a-z][a-z0-9-]+(=\S+)?", text) or not text.isprintable():
        return f"{text!r} is no long option of sbatch in one word, such as --mail-type=END"
    name = text[2:].partition("=")[0]
    # SLURM completes abbreviated options.
    for option, key in _KEYS_OF_OPTIONS.items():
        if option.startswith(name):
            return f"{text!r} has a key of its own: set {key} under `execution: cluster:`"
    if any(option.startswith(name) for option in _OWN_OPTIONS):
        return f"{text!r} is set by the run itself for each job, and cannot be passed on"
    return None


class Cluster(Closed):
    """Resources that jobs request from SLURM; every key is optional."""

    account: Word | None = Field(None, description="charged account; default: the user's default account")
    partition: Word | None = Field(None, description="of jobs without a GPU; default: the cluster's default partition")
    gpu_partition: Word | None = Field(
        None, description="of jobs with a GPU; default: the default partition if it has GPUs, else the largest that has"
    )
    gpu_model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")] | None = Field(
        None, description="type of GPU, as `sinfo --format=%G` names it; default: any"
    )
    memory_mb: PositiveInt | None = Field(
        4000,
        description="memory of a job that works on a model, at the first attempt; doubled at the second; null: no job "
        "requests memory, for clusters without `--mem`",
    )
    minutes: PositiveInt = Field(
        240, description="time limit of a job that works on a model, if its duration cannot be predicted"
    )
    max_minutes: PositiveInt | None = Field(
        None, description="upper bound of all time limits; default: the partition's limit"
    )
    group_minutes: int = Field(
        5, ge=0, description="cells predicted to take at most this long share jobs; 0: one job per cell"
    )
    cells_per_gpu: PositiveInt = Field(
        1,
        description="cells that compute side by side on one GPU, under NVIDIA's MPS if it is installed: those that "
        "share a job, and those of a local run; for small networks, which leave most of a GPU idle",
    )
    controller_partition: Word | None = Field(
        None, description="of the job that `gauntlet submit` starts; default: that of jobs without a GPU"
    )
    controller_minutes: PositiveInt = Field(
        1440, description="time limit of that job; before it ends, the job requeues itself"
    )
    controller_memory_mb: PositiveInt | None = Field(
        2000, description="memory of that job; none is requested where this or `memory_mb` is null"
    )
    sbatch: tuple[str, ...] = Field(
        (),
        strict=False,
        description="long options of `sbatch` without a key here, for all jobs, the controller's included: "
        "`[--mail-type=END, --exclude=n1]`",
    )

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        problems = [(("sbatch", str(index)), _option_problem(text)) for index, text in enumerate(self.sbatch)]
        refuse([(key_path, problem) for key_path, problem in problems if problem])
        names = [text.partition("=")[0] for text in self.sbatch]
        twice = [index for index, name in enumerate(names) if name in names[:index]]
        refuse([(("sbatch", str(index)), f"{names[index]} is given twice") for index in twice])
        return self
