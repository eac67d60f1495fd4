"""Shards in the workflow: separate jobs for unfinished cells only."""

from __future__ import annotations

import copy
import shutil

import pyarrow.parquet as pq
import pytest

from gauntlet.pipeline import paths
from gauntlet.pipeline.staleness import State
from tests.support.cells import make_cell
from tests.support.interruptible import temporary_files
from tests.support.stub_outputs import CONFIG, staleness_in, write_config
from tests.support.workflow import TINY, link_workflow, planned_jobs, run_snakemake


def sharded(config, count):
    """Split the samples of one attack into a number of jobs."""
    changed = copy.deepcopy(config)
    changed["experiments"]["small"]["attacks"]["pgd"]["shards"] = count
    return changed


def test_another_number_of_shards_makes_nothing_stale(stub_folder):
    """The number of shards is in no recipe."""
    for count in (1, 2, 7):
        write_config(stub_folder, sharded(CONFIG, count))
        staleness = staleness_in(stub_folder)
        assert staleness.unfinished() == []
        assert {staleness.state(cell) for cell in staleness.graph.cells()} == {State.CURRENT}


def test_shards_are_planned_for_unfinished_cells_only(stub_folder):
    """A finished run plans no job, and a cell without a file plans its own shards."""
    link_workflow(stub_folder)
    write_config(stub_folder, sharded(CONFIG, 4))
    assert planned_jobs(stub_folder) == {}
    cell = make_cell("evaluate", "small", "ecc", 1, "pgd")
    paths.examples(cell).unlink()
    # Marks of a killed run do not count as finished work.
    (paths.samples(cell).parent / ".shard-2-of-4").touch()
    jobs = planned_jobs(stub_folder)
    assert (jobs["shard"], jobs["evaluate"]) == (4, 1)


@pytest.mark.slow
def test_shards_run_and_are_gathered(tmp_path, monkeypatch):
    """Each shard has its own job, and no file of a shard stays."""
    monkeypatch.chdir(tmp_path)
    config = sharded(TINY, 2)
    config["experiments"]["small"]["variants"].pop("lipschitz")
    config["experiments"]["small"].pop("certificates")
    write_config(tmp_path, config)
    link_workflow(tmp_path)
    cell = make_cell("evaluate", "small", "softmax", 0, "pgd")
    run_snakemake(tmp_path, str(paths.samples(cell)))
    assert pq.read_table(paths.samples(cell)).num_rows == 20
    assert "20 of 20 samples are finished already" in paths.log(cell).read_text()
    assert len(list((tmp_path / "logs/small").glob("evaluate.softmax.0.pgd.*-of-2.log"))) == 2
    assert temporary_files(paths.samples(cell).parent) == []
    shutil.rmtree(tmp_path / ".snakemake")
    write_config(tmp_path, sharded(config, 3))
    assert planned_jobs(tmp_path, str(paths.samples(cell))) == {}
