"""Resources of a cell's job, from configuration, partitions and known durations."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from gauntlet.config.execution import Execution
from gauntlet.pipeline.cluster import partitions
from gauntlet.pipeline.cluster.partitions import PARTITIONS_VARIABLE, Partition, list_partitions, parse_minutes
from gauntlet.pipeline.cluster.queue import Job, dependency_option
from gauntlet.pipeline.cluster.resources import JobResources
from tests.support.cells import make_cell
from tests.support.paper_cluster import paper_cluster

TRAIN = make_cell("train", "small", "softmax", 0)
ATTACK = make_cell("evaluate", "small", "softmax", 0, "pgd")
TABLE = make_cell("aggregate", "small")
SINFO = "cpu*|up|90|2-00:00:00|(null)\nfew|up|2|1:00:00|gpu:a100:4\nmany|up|5|30:00|gpu:v100:2(S:0-1),tmp:1\nmany|up|9|30:00|(null)\nold|drain|9|infinite|gpu:k80:2"  # noqa: E501


def allocation(execution=None, *, there=None, **known):
    cluster = list_partitions({PARTITIONS_VARIABLE: SINFO}) if there is None else there
    return JobResources(Execution.model_validate(execution or {}), cluster, **known)


def test_partitions_are_read_from_sinfo():
    """A partition on several lines counts once; one that is down or hidden is marked."""
    assert list_partitions({PARTITIONS_VARIABLE: SINFO + "\nbeta|up|1|infinite|(null)|hidden"}) == (
        Partition("cpu", 90, is_default=True, max_minutes=2880),
        Partition("few", 2, has_gpus=True, max_minutes=60),
        Partition("many", 14, has_gpus=True, max_minutes=30),
        Partition("old", 9, has_gpus=True, is_up=False),
        Partition("beta", 1, is_hidden=True),
    )


def test_hidden_partitions_are_queried_too(tmp_path, monkeypatch):
    """`sinfo --all` lists more than `sinfo`; the rest is hidden from users whose configuration does not name it."""
    cluster = paper_cluster(tmp_path / "bin", hidden="secret|up|2|1:00:00|gpu:h100:8\n")
    monkeypatch.setenv("PATH", cluster.environment()["PATH"])
    hidden = Partition("secret", 2, has_gpus=True, max_minutes=60, is_hidden=True)
    assert list_partitions({})[2:] == (hidden,)
    assert allocation(there=(hidden,)).of(TRAIN, 1).gpu == 0
    named = allocation({"cluster": {"gpu_partition": "secret", "minutes": 500}}, there=(hidden,)).of(TRAIN, 1)
    assert (named.gpu, named.slurm_partition, named.runtime) == (1, "secret", 60)


def test_a_partition_that_is_down_is_used_last(monkeypatch):
    """Jobs may wait there, so that it still decides that models get GPUs."""
    down = Partition("a", 9, has_gpus=True, is_up=False)
    assert allocation(there=(down, Partition("b", 1, has_gpus=True))).of(TRAIN, 1).slurm_partition == "b"
    assert allocation(there=(down, Partition("c", 9))).of(TRAIN, 1).slurm_partition == "a"


def test_unlisted_partitions_are_left_to_sbatch(monkeypatch):
    """They are named for a warning, unless nothing is known of the cluster."""
    monkeypatch.setenv(PARTITIONS_VARIABLE, SINFO)
    assert partitions.unlisted_partitions(None, "cpu", "few,old") == []
    assert partitions.unlisted_partitions("few,mny", "mny") == ["mny"]
    monkeypatch.setenv(PARTITIONS_VARIABLE, "")
    assert partitions.unlisted_partitions("anything") == []


def test_no_job_requests_memory_where_the_key_is_null():
    """Neither those on models, nor light ones, nor the controller."""
    without = allocation({"cluster": {"memory_mb": None}})
    assert [without.of(cell, 2).mem_mb for cell in (TRAIN, TABLE)] == [None, None]
    assert without.of_controller().mem_mb is None
    assert allocation({"cluster": {"controller_memory_mb": None}}).of_controller().mem_mb is None


def test_options_of_sbatch_are_passed_on():
    """Each is quoted for the shell; constraint and quality of service are resources of the plugin."""
    options = ["--mail-type=END", "--exclude=n[1-2],$x", "--exclusive", "--constraint=a&b", "--qos=long"]
    asked = allocation({"cluster": {"sbatch": options}})
    assert asked.of(TRAIN, 1).slurm_extra == "'--mail-type=END' '--exclude=n[1-2],$x' '--exclusive'"
    assert (asked.of(TABLE, 1).constraint, asked.of(TABLE, 1).qos) == ("a&b", "long")
    assert asked.options == {
        "mail-type": "END",
        "exclude": "n[1-2],$x",
        "exclusive": "",
        "constraint": "a&b",
        "qos": "long",
    }
    old = [Job("7", "RUNNING", "", "rule_evaluate_wildcards_x")]
    extra = allocation({"cluster": {"sbatch": options[:1]}}, earlier_jobs=old).of(ATTACK, 1, old[0].comment).slurm_extra
    assert extra == "--dependency=afterany:7 '--mail-type=END'"


def test_defaults_of_the_command_line_hold_where_the_configuration_sets_none():
    """The configuration is more specific than `--default-resources`."""
    defaults = {"slurm_account": "d", "slurm_partition": "p", "slurm_extra": "--nice", "constraint": "c", "qos": "q"}
    asked = allocation(defaults=defaults).of(TRAIN, 1)
    assert (asked.slurm_account, asked.slurm_partition, asked.slurm_extra) == ("d", "p", "--nice")
    assert (asked.constraint, asked.qos) == ("c", "q")
    execution = {
        "cluster": {"account": "A", "gpu_partition": "P", "sbatch": ["--constraint=C", "--qos=Q", "--begin=now"]}
    }
    asked = allocation(execution, defaults=defaults).of(TRAIN, 1)
    assert (asked.slurm_account, asked.slurm_partition, asked.slurm_extra) == ("A", "P", "'--begin=now' --nice")
    assert (asked.constraint, asked.qos) == ("C", "Q")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--mem=5", "has a key of its own: set `memory_mb`"),
        ("--acc=me", "has a key of its own: set `account`"),
        ("--time=1:00", "set `minutes` or `max_minutes`"),
        ("--gres=gpu:1", "set `gpu_model`"),
        ("--job-name=x", "is set by the run itself"),
        ("--wrap=id", "is set by the run itself"),
        ("-A", "is no long option of sbatch in one word"),
        ("--mail-type END", "is no long option"),
        ("--comment=a\nb", "is no long option"),
        ("mail", "is no long option"),
    ],
)
def test_an_option_with_a_key_or_owned_by_the_run_is_refused(option, message):
    """The message names the key."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        allocation({"cluster": {"sbatch": ["--nice", option]}})


def test_an_option_given_twice_is_refused():
    """The last one would win without a word."""
    with pytest.raises(ValidationError, match="--nice is given twice"):
        allocation({"cluster": {"sbatch": ["--nice", "--nice=5"]}})


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


def test_short_cells_share_a_gpu():
    """Memory, CPUs and slots add up over the cells at once; the GPU is a text, and so asked for once."""
    alone = allocation({"cluster": {"gpu_model": "a100"}}, seconds=lambda cell: 120.0)
    shared = allocation(
        {"cluster": {"gpu_model": "a100", "cells_per_gpu": 3}},
        seconds=lambda cell: 120.0,
        group_sizes={"cells": 8},
    )
    asked, before = shared.of(ATTACK, 1), alone.of(ATTACK, 1)
    assert (before.gpu, before.gpu_model, before.gres, before.slot, alone.slots) == (1, "a100", "", 1, 1)
    assert (asked.gpu, asked.gpu_model, asked.gres, asked.slot, shared.slots) == (0, "", "gpu:a100:1", 1, 3)
    assert asked.mem_mb == before.mem_mb
    # Together they take no less time than one after another; the imports overlap.
    assert (before.runtime, asked.runtime) == (2 * 2 + 10, 10)
    assert allocation({"cluster": {"cells_per_gpu": 3}}, seconds=lambda cell: 120.0).of(ATTACK, 1).runtime == 22
    assert allocation({"cluster": {"cells_per_gpu": 3}}).of(ATTACK, 1).gpu == 1
    assert shared.of(TABLE, 1).slot == 3


@pytest.mark.parametrize(("has_gpu", "slots"), [(True, (1, 2, 0)), (False, (0, 0, 0))])
def test_cells_of_a_local_run_take_slots_of_its_gpu(has_gpu, slots):
    """A training on several GPUs takes all, others one, and cells without a model none."""
    gpus = {"gpus": lambda cell: 4 if cell.stage.name == "train" else 1}
    local = allocation({"cluster": {"cells_per_gpu": 2}}, there=(), local_gpu=has_gpu, **gpus)
    assert tuple(local.of(cell, 1).slot for cell in (ATTACK, TRAIN, TABLE)) == slots


def test_cells_per_gpu_without_a_gpu_are_refused():
    """The key would have no effect."""
    with pytest.raises(ValidationError, match="has no effect with `device: cpu`"):
        allocation({"device": "cpu", "cluster": {"cells_per_gpu": 2}})
