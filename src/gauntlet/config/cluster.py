"""The schema of what jobs on a cluster ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from gauntlet.config.base import Closed
from gauntlet.registry import PositiveInt

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@+-]+$")]
"""An account's or a partition's name, or several parted by commas; it becomes part of a command."""


class Cluster(Closed):
    """What jobs ask SLURM for; everything may be left out."""

    account: Word | None = Field(None, description="charged account; without it the user's default one")
    partition: Word | None = Field(None, description="of jobs without a GPU; without it the cluster's default one")
    gpu_partition: Word | None = Field(
        None, description="of jobs with a GPU; without it the default one if it has GPUs, else the largest that has"
    )
    gpu_model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")] | None = Field(
        None, description="type of GPU, by the name in `sinfo --format=%G`; any without it"
    )
    memory_mb: PositiveInt = Field(
        4000, description="memory of a job that works on a model, at the first attempt; the second gets twice as much"
    )
    minutes: PositiveInt = Field(
        240, description="time limit of a job that works on a model, if nothing is known of how long it takes"
    )
    max_minutes: PositiveInt | None = Field(
        None, description="no job asks for more time; without it the partition's own limit holds"
    )
    group_minutes: int = Field(
        5, ge=0, description="cells known to take at most this long share jobs; 0 gives each a job of its own"
    )
    preload: bool = Field(
        True, description="cells that share a job are forked from one process that has loaded the libraries"
    )
    controller_partition: Word | None = Field(
        None, description="of the job that `gauntlet submit` makes; without it that of jobs without a GPU"
    )
    controller_minutes: PositiveInt = Field(
        1440, description="time limit of that job; before it, the job queues itself again"
    )
    controller_memory_mb: PositiveInt = Field(2000, description="memory of that job")
