"""The poller of SLURM's queue, with recorded output of SLURM 22.05 and commands that fail or hang."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from gauntlet.pipeline.cluster.queue import Job, parse_jobs
from gauntlet.pipeline.stages.catalog import stages
from gauntlet.pipeline.status.queue_poller import QueuePoller, job_comment, jobs_by_cell
from tests.support import ROOT
from tests.support.cells import make_cell

HERE = Path("/cluster/project/work")
RECORDED = """\
3|PENDING|Resources|rule_evaluate_wildcards_small_softmax_0_pgd|/cluster/project/work
5|PENDING|Priority|rule_1b0b_evaluate|/cluster/project/work
6|PENDING|BeginTime|rule_train_wildcards_small_softmax_0|/cluster/other
4|PENDING|JobHeldUser|rule_evaluate_wildcards_small_lipschitz_0_noise|/cluster/project/work
1|RUNNING|None|rule_train_wildcards_small_softmax_0|/cluster/project/work
2|RUNNING|None|rule_shard_wildcards_small_softmax_1_pgd_1_2|/cluster/project/work
"""
PGD = make_cell("evaluate", "small", "softmax", 0, "pgd")
MODEL = make_cell("train", "small", "softmax", 0)


def test_the_recorded_queue_is_read():
    """State, reason and comment of this folder's jobs are read, and other clones' are not."""
    jobs = parse_jobs(RECORDED, HERE)
    assert [job.id for job in jobs] == ["3", "5", "4", "1", "2"]
    assert jobs[0] == Job("3", "PENDING", "Resources", "rule_evaluate_wildcards_small_softmax_0_pgd")
    assert [str(job) for job in jobs[2:4]] == ["PENDING (JobHeldUser)", "RUNNING"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "squeue: a notice of the site",
        "7|PENDING",
        "7|PENDING|None||/cluster/project/work",
        "7||None|rule_a|",
        "7|RUNNING|None|(null)|/cluster/project/work",
    ],
)
def test_lines_of_another_form_are_ignored(line):
    """Messages of the site and jobs without a comment are ignored."""
    assert parse_jobs(f"{line}\n{RECORDED}", HERE) == parse_jobs(RECORDED, HERE)


def test_a_folder_may_be_spelt_through_a_link(tmp_path):
    """The folder's name may hold a bar, too."""
    folder = tmp_path / "a|b"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    assert len(parse_jobs(f"1|RUNNING|None|rule_x|{tmp_path / 'link'}\n2|RUNNING|None|rule_x|{folder}", folder)) == 2


def test_jobs_are_identified_by_their_comments():
    """A shard's job belongs to its cell, and a group's job to no single cell."""
    held = make_cell("evaluate", "small", "lipschitz", 0, "noise")
    sharded = make_cell("evaluate", "small", "softmax", 1, "pgd")
    found, others = jobs_by_cell(parse_jobs(RECORDED, HERE), [MODEL, PGD, held, sharded])
    assert {cell: [job.id for job in jobs] for cell, jobs in found.items()} == {
        PGD: ["3"],
        held: ["4"],
        MODEL: ["1"],
        sharded: ["2"],
    }
    assert [job.id for job in others] == ["5"]


def test_a_comment_that_could_mean_two_cells_is_of_neither():
    """Names may hold the underscore that joins them."""
    one, other = make_cell("train", "a_b", "c", 0), make_cell("train", "a", "b_c", 0)
    assert job_comment(one) == job_comment(other)
    found, others = jobs_by_cell([Job("1", "RUNNING", "", job_comment(one))], [one, other])
    assert found == {}
    assert len(others) == 1


@pytest.mark.parametrize("stage", [declared.name for declared in stages()])
def test_comments_name_rules_and_wildcards_as_the_rules_have_them(stage):
    """The order of wildcards is that of a rule's first output."""
    cells = {
        "prepare": make_cell("prepare", name="PROBE"),
        "aggregate": make_cell("aggregate", "EXPERIMENT"),
        "table": make_cell("table", "EXPERIMENT"),
        "effects": make_cell("effects", "EXPERIMENT"),
        "published": make_cell("published", "EXPERIMENT"),
        "report": make_cell("report", "EXPERIMENT"),
        "figure": make_cell("figure", "EXPERIMENT", name="PROBE"),
    }
    probe = "PROBE" if stage in ("evaluate", "certify") else ""
    cell = cells.get(stage) or make_cell(stage, "EXPERIMENT", "VARIANT", 7, probe)
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = re.findall(r'rule (\w+):\s+input:\s+cell_inputs\("(\w+)".*?output:.*?"([^"]+)"', text, re.DOTALL)
    ((rule, first),) = [(rule, first) for rule, of, first in rules if of == stage and rule != "shard"]
    spelt = {"experiment": "EXPERIMENT", "variant": "VARIANT", "seed": "7"}
    wildcards = [spelt.get(name, "PROBE") for name in re.findall(r"\{(\w+)\}", first)]
    assert job_comment(cell) == f"rule_{rule}_wildcards_{'_'.join(wildcards)}"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Put a `squeue` first on the path that records each call."""

    def install(script):
        command = tmp_path / "bin" / "squeue"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/calls\n{script}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
        return lambda: len((tmp_path / "calls").read_text().splitlines())

    return install


def answered(queue, until, limit_s=200.0):
    """Poll until a condition holds; each poll must return at once."""
    end_s = time.monotonic() + limit_s
    while not until(queue.poll()):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_an_answer_is_kept_for_the_interval(squeue, tmp_path):
    """The queue is queried once, however often the poller is read."""
    (tmp_path / "recorded").write_text(RECORDED)
    calls = squeue(f"cat {tmp_path}/recorded")
    queue = QueuePoller(HERE, interval_s=600.0)
    answered(queue, lambda jobs: len(jobs) == 5)
    for _ in range(20):
        assert len(queue.poll()) == 5
    assert calls() == 1
    assert queue.problem == ""


def test_a_failing_command_is_reported_and_the_last_answer_kept(squeue, tmp_path):
    """The output is recorded from a SLURM without its controller, which then answers again."""
    (tmp_path / "recorded").write_text(RECORDED)
    squeue(f"cat {tmp_path}/recorded")
    queue = QueuePoller(HERE, interval_s=0.0)
    answered(queue, lambda jobs: len(jobs) == 5)
    complaint = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    squeue(f"echo '{complaint}' >&2; exit 1")
    answered(queue, lambda jobs: queue.problem)
    assert queue.problem == complaint
    assert len(queue.jobs) == 5
    squeue(f"cat {tmp_path}/recorded")
    answered(queue, lambda jobs: not queue.problem)


def test_a_hanging_command_is_killed_without_waiting(squeue):
    """A poll returns at once, and the process does not stay."""
    squeue("exec sleep 600")
    queue = QueuePoller(HERE, timeout_s=0.3)
    start_s = time.monotonic()
    queue.poll()
    process = queue._running[0]
    assert time.monotonic() - start_s < 300
    answered(queue, lambda jobs: queue.problem)
    assert queue.problem == "squeue: no answer within 0.3 s"
    assert process.wait(1200) != 0


def test_without_squeue_there_is_no_queue(monkeypatch):
    """A laptop has no queue, and no problem is reported."""
    monkeypatch.setenv("PATH", "/nowhere")
    queue = QueuePoller(HERE)
    assert queue.poll() == []
    assert queue.problem == ""
