"""The schema of SLURM resources."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from gauntlet.config.base import Closed
from gauntlet.registry import PositiveInt

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@+-]+$")]
"""Name of an account or a partition, or several separated by commas; it becomes part of a command."""


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
    memory_mb: PositiveInt = Field(
        4000, description="memory of a job that works on a model, at the first attempt; doubled at the second"
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
    preload: bool = Field(
        True, description="cells that share a job are forked from one process that has loaded the libraries"
    )
    controller_partition: Word | None = Field(
        None, description="of the job that `gauntlet submit` starts; default: that of jobs without a GPU"
    )
    controller_minutes: PositiveInt = Field(
        1440, description="time limit of that job; before it ends, the job requeues itself"
    )
    controller_memory_mb: PositiveInt = Field(2000, description="memory of that job")
