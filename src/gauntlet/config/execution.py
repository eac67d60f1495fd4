"""The schema of `execution`: devices, batch sizes, precision and cluster, which change no result."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gauntlet.config.base import Closed
from gauntlet.config.cluster import Cluster
from gauntlet.config.components import refuse
from gauntlet.registry import PositiveInt


class Execution(Closed):
    """Devices, batch sizes, precision and cluster: nothing here changes a result or makes one stale."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto: a GPU if there is one, else the CPU; cpu: the CPU, even where there is a GPU"
    )
    deterministic: Literal[True, "warn", False] = Field(
        True,
        description="kernels that give the same bytes for the same inputs; an operation that has none is refused by "
        "name, with warn it runs with a warning, with false any kernel runs",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of an attack's passes; auto: bfloat16 for attacks that need only directions of gradients, where "
        "the device is fast at it and the gradients agree, else float32, on a GPU with TF32; every success is "
        "confirmed in IEEE float32",
    )
    attack_batch_size: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="images per attack batch; auto: 256 on the CPU, on a GPU what fits into half of the free memory, "
        "at most 1024",
    )
    scratch: Annotated[str, StringConstraints(pattern=r"^(auto|off|[/$].*)$")] = Field(
        "auto",
        description="folder on a node's local disk, where files are written before they are moved to their place; "
        "auto: $SLURM_TMPDIR or, in a job, $TMPDIR, if that is another file system; off: none",
    )
    preload: bool = Field(
        True,
        description="the cells of a local run, and those that share a job on a cluster, are forked from one process "
        "that has the libraries loaded",
    )
    cluster: Cluster = Field(Cluster(), description="resources that jobs request from SLURM")

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        """Refuse a device on which nothing here was ever run, and a number of cells per GPU where there is none."""
        if self.device == "mps":
            refuse([(("device",), "mps is not supported: it has no float64, which distances need; set cpu")])
        if self.device == "cpu" and self.cluster.cells_per_gpu > 1:
            problem = "has no effect with `device: cpu`; leave it out, or set `device` to auto or cuda"
            refuse([(("cluster", "cells_per_gpu"), problem)])
        return self
