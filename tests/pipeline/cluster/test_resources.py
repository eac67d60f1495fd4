"""Resources of a cell's job, from configuration, partitions and known durations."""

from __future__ import annotations

import pytest

from gauntlet.config.schema import Execution
from gauntlet.core.errors import InputError
from gauntlet.pipeline.cluster import partitions
from gauntlet.pipeline.cluster.partitions import PARTITIONS_VARIABLE, Partition, list_partitions, parse_minutes
from gauntlet.pipeline.cluster.queue import Job, dependency_option
from gauntlet.pipeline.cluster.resources import JobResources
from tests.support.cells import make_cell

TRAIN = make_cell("train", "small", "softmax", 0)
ATTACK = make_cell("evaluate", "small", "softmax", 0, "pgd")
TABLE = make_cell("aggregate", "small")
SINFO = "cpu*|up|90|2-00:00:00|(null)\nfew|up|2|1:00:00|gpu:a100:4\nmany|up|5|30:00|gpu:v100:2(S:0-1),tmp:1\nmany|up|9|30:00|(null)\nold|drain|9|infinite|gpu:k80:2"  # noqa: E501


def allocation(execution=None, *, there=None, **known):
    cluster = list_partitions({PARTITIONS_VARIABLE: SINFO}) if there is None else there
    return JobResources(Execution.model_validate(execution or {}), cluster, **known)


def test_partitions_are_read_from_sinfo():
    """A partition on several lines counts once, and one that is down is left out."""
    assert list_partitions({PARTITIONS_VARIABLE: SINFO}) == (
        Partition("cpu", 90, is_default=True, max_minutes=2880),
        Partition("few", 2, has_gpus=True, max_minutes=60),
        Partition("many", 14, has_gpus=True, max_minutes=30),
    )


def test_an_unknown_partition_is_refused_before_any_job(monkeypatch):
    """The error suggests the right name; without known partitions any name passes."""
    monkeypatch.setattr(partitions, "find_command", lambda name: name)
    monkeypatch.setenv(PARTITIONS_VARIABLE, SINFO)
    partitions.require_partitions(None, "cpu", "few,many")
    with pytest.raises(InputError, match="no partition 'mny' accepts jobs here; did you mean 'many'"):
        partitions.require_partitions("few,mny")
    monkeypatch.setenv(PARTITIONS_VARIABLE, "")
    partitions.require_partitions("anything")


@pytest.mark.parametrize(
    ("limit", "wanted"), [("2-03:04:05", 3064), ("1:00:00", 60), ("30:00", 30), ("infinite", None), ("n/a", None)]
)
def test_time_limits_are_read_as_slurm_prints_them(limit, wanted):
    """SLURM's time formats are converted to minutes."""
    assert parse_minutes(limit) == wanted


@pytest.mark.parametrize(
    ("execution", "gpu", "partition"),
    [
        ({}, 1, "many"),
        ({"device": "cpu"}, 0, ""),
        ({"cluster": {"gpu_partition": "few"}}, 1, "few"),
        ({"device": "cpu", "cluster": {"partition": "old"}}, 0, "old"),
    ],
)
def test_only_stages_on_models_request_a_gpu(execution, gpu, partition):
    """The partition is the configured one, the default, or the largest one with GPUs."""
    asked = allocation(execution).of(TRAIN, 1)
    assert (asked.gpu, asked.slurm_partition) == (gpu, partition)
    assert allocation(execution).of(TABLE, 1).gpu == 0


def test_a_distributed_training_requests_a_gpu_per_process():
    """It has its own job however short it is, and requests none on a cluster without GPUs."""
    shared = {"gpus": lambda cell: 4 if cell.stage.name == "train" else 1, "seconds": lambda cell: 1.0}
    assert allocation(**shared).of(TRAIN, 1).gpu == 4
    assert allocation(**shared).of(ATTACK, 1).gpu == 1
    assert allocation({"device": "cpu"}, **shared).of(TRAIN, 1).gpu == 0
    assert (allocation(**shared).group(TRAIN), allocation(**shared).group(ATTACK)) == (None, "cells")


def test_a_default_partition_with_gpus_is_not_named():
    """No partition is requested if the default one has GPUs."""
    there = (Partition("all", 3, is_default=True, has_gpus=True), Partition("more", 9, has_gpus=True))
    assert allocation(there=there).of(TRAIN, 1).slurm_partition == ""


def test_gpus_are_requested_only_if_available_or_configured():
    """A cluster without GPUs gets no request unless the configuration has one."""
    there = (Partition("cpu", 3, is_default=True),)
    assert allocation(there=there).of(TRAIN, 1).gpu == 0
    assert allocation({"device": "cuda"}, there=there).of(TRAIN, 1).gpu == 1


def test_a_type_of_gpu_and_an_account_are_passed_on():
    """The type is requested only with a GPU."""
    execution = {"cluster": {"gpu_model": "a100", "account": "physics"}}
    assert allocation(execution).of(TRAIN, 1).gpu_model == "a100"
    assert allocation(execution).of(TABLE, 1).gpu_model == ""
    assert allocation(execution).of(TABLE, 1).slurm_account == "physics"


def test_each_attempt_requests_more_memory_and_twice_the_time():
    """A request above a partition's limit would wait forever, so requests are capped."""
    asks = [allocation(there=()).of(TRAIN, attempt) for attempt in (1, 2, 3)]
    assert [(one.mem_mb, one.runtime) for one in asks] == [(4000, 240), (8000, 480), (12000, 960)]
    assert allocation().of(TRAIN, 1).runtime == 30
    assert allocation({"cluster": {"max_minutes": 20}}).of(TRAIN, 3).runtime == 20
    assert allocation({"device": "cpu", "cluster": {"minutes": 2000}}).of(TRAIN, 2).runtime == 2880


def test_cells_of_a_shared_job_request_at_most_the_limit():
    """The times of cells are added."""
    shared = allocation(seconds=lambda cell: 240.0, group_sizes={"cells": 8})
    assert shared.of(ATTACK, 1).runtime == 30 // 8
    assert shared.of(make_cell("report", "small"), 1).runtime == 18
    short = (Partition("cpu", 3, is_default=True, max_minutes=60),)
    assert allocation(there=short).of(make_cell("report", "small"), 1).runtime == 5


def test_time_follows_known_durations_and_shards():
    """Twice the known duration plus start-up is requested, since nodes differ."""
    known = allocation(there=(), seconds=lambda cell: 3600.0)
    assert known.of(ATTACK, 1).runtime == 130
    assert allocation(there=(), seconds=lambda cell: 3600.0, shards=lambda cell: 4).of(ATTACK, 1).runtime == 40


def test_cells_known_to_be_short_share_jobs():
    """Cells of unknown duration, shards, preparation and aggregation have their own jobs."""
    short = allocation(seconds=lambda cell: 20.0)
    assert [short.group(cell) for cell in (TRAIN, ATTACK, TABLE)] == ["trainings", "cells", None]
    assert short.group(make_cell("figure", "small", name="robust_accuracy")) == "figures"
    assert allocation().group(ATTACK) is None
    assert allocation({"cluster": {"minutes": 5}}).group(ATTACK) == "cells"
    assert allocation(seconds=lambda cell: 20.0, shards=lambda cell: 2).group(ATTACK) is None
    assert allocation({"cluster": {"group_minutes": 0}}, seconds=lambda cell: 20.0).group(ATTACK) is None


def test_a_cell_waits_for_an_earlier_controllers_job():
    """It waits for its own job and for shared ones, which may hold it, and for no other."""
    comment = "rule_evaluate_wildcards_small_softmax_0_pgd"
    comments = (comment, comment + "2", "rule_cells_evaluate", "rule_train_x")
    left = [Job(str(number), "RUNNING", "", one) for number, one in enumerate(comments, 1)]
    assert allocation(earlier_jobs=left).of(ATTACK, 1, comment).slurm_extra == "--dependency=afterany:1:3"
    assert allocation(earlier_jobs=left).of(TRAIN, 1, "rule_train_y").slurm_extra == ""
    shared = allocation(earlier_jobs=left, seconds=lambda cell: 20.0)
    assert shared.of(ATTACK, 1, comment).slurm_extra == "--dependency=afterany:1:2:3"
    assert dependency_option([]) == ""
