"""What a cell's job asks for, from the configuration, the partitions and what is known of durations."""

from __future__ import annotations

import pytest

from gauntlet.config import Cell
from gauntlet.config.schema import Execution
from gauntlet.core.errors import InputError
from gauntlet.pipeline.cluster import partitions
from gauntlet.pipeline.cluster.partitions import PARTITIONS_VARIABLE, Partition, list_partitions, parse_minutes
from gauntlet.pipeline.cluster.queue import Job, dependency_option
from gauntlet.pipeline.cluster.resources import JobResources

TRAIN = Cell("train", "small", "softmax", 0)
ATTACK = Cell("evaluate", "small", "softmax", 0, "pgd")
TABLE = Cell("aggregate", "small")
SINFO = "cpu*|up|90|2-00:00:00|(null)\nfew|up|2|1:00:00|gpu:a100:4\nmany|up|5|30:00|gpu:v100:2(S:0-1),tmp:1\nmany|up|9|30:00|(null)\nold|drain|9|infinite|gpu:k80:2"  # noqa: E501


def allocation(execution=None, *, there=None, **known):
    cluster = list_partitions({PARTITIONS_VARIABLE: SINFO}) if there is None else there
    return JobResources(Execution.model_validate(execution or {}), cluster, **known)


def test_partitions_are_read_as_sinfo_lists_them():
    """One of several lines counts once; one that takes no jobs is left out."""
    assert list_partitions({PARTITIONS_VARIABLE: SINFO}) == (
        Partition("cpu", 90, is_default=True, max_minutes=2880),
        Partition("few", 2, has_gpus=True, max_minutes=60),
        Partition("many", 14, has_gpus=True, max_minutes=30),
    )


def test_a_partition_that_is_not_there_is_refused_before_any_job(monkeypatch):
    """With the name that was meant; any name passes where nothing is known of partitions."""
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
def test_only_work_on_models_asks_for_a_gpu_and_where_there_is_one(execution, gpu, partition):
    """The partition is the one asked for, else the default one, else the largest that has GPUs."""
    asked = allocation(execution).of(TRAIN, 1)
    assert (asked.gpu, asked.slurm_partition) == (gpu, partition)
    assert allocation(execution).of(TABLE, 1).gpu == 0


def test_a_training_that_several_processes_share_asks_for_a_gpu_for_each_and_has_its_own_job():
    """However short it is; without GPUs it asks for none."""
    shared = {"gpus": lambda cell: 4 if cell.stage == "train" else 1, "seconds": lambda cell: 1.0}
    assert allocation(**shared).of(TRAIN, 1).gpu == 4
    assert allocation(**shared).of(ATTACK, 1).gpu == 1
    assert allocation({"device": "cpu"}, **shared).of(TRAIN, 1).gpu == 0
    assert (allocation(**shared).group(TRAIN), allocation(**shared).group(ATTACK)) == (None, "cells")


def test_a_default_partition_with_gpus_is_not_named():
    there = (Partition("all", 3, is_default=True, has_gpus=True), Partition("more", 9, has_gpus=True))
    assert allocation(there=there).of(TRAIN, 1).slurm_partition == ""


def test_a_cluster_without_gpus_is_asked_for_none_unless_the_configuration_insists():
    there = (Partition("cpu", 3, is_default=True),)
    assert allocation(there=there).of(TRAIN, 1).gpu == 0
    assert allocation({"device": "cuda"}, there=there).of(TRAIN, 1).gpu == 1


def test_a_type_of_gpu_and_an_account_are_passed_on():
    """The type only with a GPU, for none of a type is an error."""
    execution = {"cluster": {"gpu_model": "a100", "account": "physics"}}
    assert allocation(execution).of(TRAIN, 1).gpu_model == "a100"
    assert allocation(execution).of(TABLE, 1).gpu_model == ""
    assert allocation(execution).of(TABLE, 1).slurm_account == "physics"


def test_each_attempt_gets_more_memory_and_twice_the_time_up_to_what_is_allowed():
    """A job that asks for more than a partition allows would stay in the queue for ever."""
    asks = [allocation(there=()).of(TRAIN, attempt) for attempt in (1, 2, 3)]
    assert [(one.mem_mb, one.runtime) for one in asks] == [(4000, 240), (8000, 480), (12000, 960)]
    assert allocation().of(TRAIN, 1).runtime == 30
    assert allocation({"cluster": {"max_minutes": 20}}).of(TRAIN, 3).runtime == 20
    assert allocation({"device": "cpu", "cluster": {"minutes": 2000}}).of(TRAIN, 2).runtime == 2880


def test_cells_that_share_a_job_ask_together_for_no_more_than_is_allowed():
    """Their times are added."""
    shared = allocation(seconds=lambda cell: 240.0, group_sizes={"cells": 8})
    assert shared.of(ATTACK, 1).runtime == 30 // 8
    assert shared.of(Cell("report", "small"), 1).runtime == 18
    short = (Partition("cpu", 3, is_default=True, max_minutes=60),)
    assert allocation(there=short).of(Cell("report", "small"), 1).runtime == 5


def test_time_follows_what_a_cell_is_known_to_take_and_its_shards():
    """Twice as long, since nodes differ, and what starting takes."""
    known = allocation(there=(), seconds=lambda cell: 3600.0)
    assert known.of(ATTACK, 1).runtime == 130
    assert allocation(there=(), seconds=lambda cell: 3600.0, shards=lambda cell: 4).of(ATTACK, 1).runtime == 40


def test_cells_known_to_be_short_share_jobs():
    """What is not known to be short, is split, or prepares or combines has a job of its own."""
    short = allocation(seconds=lambda cell: 20.0)
    assert [short.group(cell) for cell in (TRAIN, ATTACK, TABLE)] == ["trainings", "cells", None]
    assert short.group(Cell("figure", "small", name="robust_accuracy")) == "figures"
    assert allocation().group(ATTACK) is None
    assert allocation({"cluster": {"minutes": 5}}).group(ATTACK) == "cells"
    assert allocation(seconds=lambda cell: 20.0, shards=lambda cell: 2).group(ATTACK) is None
    assert allocation({"cluster": {"group_minutes": 0}}, seconds=lambda cell: 20.0).group(ATTACK) is None


def test_a_cell_waits_for_the_job_that_a_dead_controller_left_on_it():
    """Its own, and shared ones, which may hold it; no other."""
    comment = "rule_evaluate_wildcards_small_softmax_0_pgd"
    comments = (comment, comment + "2", "rule_cells_evaluate", "rule_train_x")
    left = [Job(str(number), "RUNNING", "", one) for number, one in enumerate(comments, 1)]
    assert allocation(earlier_jobs=left).of(ATTACK, 1, comment).slurm_extra == "--dependency=afterany:1:3"
    assert allocation(earlier_jobs=left).of(TRAIN, 1, "rule_train_y").slurm_extra == ""
    shared = allocation(earlier_jobs=left, seconds=lambda cell: 20.0)
    assert shared.of(ATTACK, 1, comment).slurm_extra == "--dependency=afterany:1:2:3"
    assert dependency_option([]) == ""
