"""Display of a run: lines of events, the block on a terminal, failures once, Snakemake's own messages, the summary."""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
import time
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase as PluginTests

from gauntlet.pipeline.display import run_display, text
from gauntlet.pipeline.display.jobs import CellsJob
from gauntlet.pipeline.display.screen import Screen, ScreenStream
from gauntlet.pipeline.display.tally import Failure, RunTally
from snakemake_logger_plugin_gauntlet import LogHandler, LogHandlerSettings
from tests.support.terminal import Terminal

IDS = {"experiment": "small", "variant": "softmax", "seed": "0", "attack": "pgd"}
NAME = "evaluate small variant=softmax seed=0 attack=pgd"
LOG = "logs/small/evaluate.softmax.0.pgd.log"
CLOCK = re.compile(r"^\d\d:\d\d:\d\d ", flags=re.MULTILINE)


class Run:
    """A handler, fed with records as Snakemake makes them."""

    def __init__(self, *, show="auto", **settings):
        common = {"printshellcmds": False, "nocolor": True, "quiet": {Quietness.RULES, Quietness.REASON}}
        common |= {"debug_dag": False, "verbose": False, "show_failed_logs": True, "stdout": False, "dryrun": False}
        self.handler = LogHandler(SimpleNamespace(**common | settings), LogHandlerSettings(show=show))

    def say(self, message, level=logging.INFO, event=None, **fields):
        """Log a message."""
        record = logging.LogRecord("snakemake", level, "file.py", 1, message, (), None)
        # Only records with an event have the attribute.
        for name, value in (fields | ({"event": event} if event else {})).items():
            setattr(record, name, value)
        self.handler.emit(record)

    def begin(self, jobs=(), current=0, *, remote=False):
        """Start a run and describe it."""
        self.say("Workflow has started!", event=LogEvent.WORKFLOW_STARTED)
        self.say("Provided cores: 2", event=LogEvent.RESOURCES_INFO, **({"nodes": 2} if remote else {"cores": 2}))
        self.handler.describe(list(jobs), current, lambda _cell: None, lambda _cell: ())

    def start(self, number, rule="evaluate", **ids):
        """Start a job."""
        fields = {"jobid": number, "rule_name": rule, "wildcards": IDS | ids, "local": False}
        self.say("", event=LogEvent.JOB_INFO, **fields)
        self.say("Shell command: gauntlet evaluate", event=LogEvent.SHELLCMD, shellcmd="gauntlet evaluate", cmd=None)

    def finish(self, number):
        """End a job."""
        self.say("Finished", event=LogEvent.JOB_FINISHED, job_id=number)
        self.say(None, event=LogEvent.PROGRESS, done=1, total=2)

    def fail(self, number, log=LOG, message=None, *, indent=False):
        """Report that a job failed."""
        fields = {"jobid": number, "rule_name": "evaluate", "log": [log], "rule_msg": message, "indent": indent}
        self.say(
            "RuleException:\nCalledProcessError in file x", logging.ERROR, LogEvent.ERROR, exception="RuleException"
        )
        self.say("Error in rule evaluate", logging.ERROR, LogEvent.JOB_ERROR, **fields)

    def end(self):
        """End the run."""
        self.handler.close()


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch):
    """Let no time pass for the display, however slow the machine is."""
    now_s, now = time.monotonic(), time.time()
    clock = SimpleNamespace(monotonic=lambda: now_s, time=lambda: now, strftime=time.strftime)
    monkeypatch.setattr(run_display, "time", clock)


def job(rule="evaluate", **ids):
    return CellsJob.of(rule, IDS | ids)


@pytest.fixture
def pipe(tmp_path, monkeypatch, capsys):
    """Standard error that is no terminal: a function that returns what was written, without times of day."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/small").mkdir(parents=True)
    return lambda: CLOCK.sub("", capsys.readouterr().err)


def test_a_line_per_event_by_the_name_of_its_cell(pipe):
    run = Run()
    run.begin([job(), job("train")], current=3)
    run.say("Building DAG of jobs...")
    run.say("Select jobs to execute...")
    run.say("Execute 1 jobs...", event=LogEvent.JOB_STARTED, jobs=[1])
    run.start(1, "train")
    run.finish(1)
    run.start(2)
    with open(LOG, "w") as log:  # noqa: PTH123
        log.write(f"{NAME}: up to date\n")
    run.finish(2)
    run.start(3, "all")
    run.finish(3)
    run.end()
    lines = pipe().splitlines()
    assert lines[:4] == [
        "train small variant=softmax seed=0: started",
        "train small variant=softmax seed=0: done, 0 s (1 of 2)",
        f"{NAME}: started",
        f"{NAME}: up to date (2 of 2)",
    ]
    assert re.fullmatch(
        r"1 of 2 cells made, 1 found up to date, 3 already current; 0:00 \(CPU time \d+:\d\d\)", lines[4]
    )
    assert len(lines) == 5


def test_a_failure_shows_its_last_line_and_the_end_of_its_log_once(pipe):
    run = Run()
    run.begin([job(), job("aggregate")])
    with open(LOG, "w") as log:  # noqa: PTH123
        log.write("step 1\nstep 2\n\x1b[31mred\ngauntlet: pgd: raised RuntimeError: odd\n")
    run.start(1)
    run.fail(1)
    run.say("Trying to restart job 1.")
    run.start(1)
    run.fail(1)
    run.say("Exiting because a job execution failed. Look above for error messages", logging.ERROR)
    run.say("Complete log(s): /x/snakemake.log")
    message = "WorkflowError:\nAt least one job did not complete successfully."
    run.say(message, logging.ERROR, LogEvent.ERROR, exception="WorkflowError")
    run.end()
    output = pipe()
    failure = f"{NAME}: failed: gauntlet: pgd: raised RuntimeError: odd ({LOG})"
    assert output.count(failure) == 2
    assert output.count("    step 1\n") == 1
    assert "\x1b" not in output
    assert f"{NAME}: started again, attempt 2" in output
    assert "0 of 2 cells made, 1 failed, 1 wait for them;" in output
    assert f"failed: {failure.replace(': failed', '')}" in output
    assert "/x/snakemake.log" in output
    assert not re.search("Exception|Error in rule|WorkflowError|Exiting|Trying", output)


def test_a_retry_that_ends_well_leaves_no_failure(pipe):
    run = Run()
    run.begin([job()])
    run.start(1)
    run.fail(1)
    run.start(1)
    run.finish(1)
    run.end()
    assert "1 of 1 cell made; " in pipe()


def test_cells_of_a_failed_job_group_that_were_made_are_done(pipe, tmp_path):
    """Snakemake reports every job of the group as failed."""
    made, broken = job(), job(attack="cw")
    run = Run()
    run.begin([made, broken], remote=True)
    run.start(1)
    run.start(2, attack="cw")
    made.cell.outputs[0].parent.mkdir(parents=True)
    file = tmp_path / made.cell.outputs[0]
    file.write_text("rows")
    # Files are stamped with a clock that may lag by a tick, here since before the job began.
    stamp = file.stat().st_mtime - 0.01
    os.utime(file, (stamp, stamp))
    run.fail(1, indent=True)
    run.fail(
        2, "logs/small/evaluate.softmax.0.cw.log", "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.", indent=True
    )
    run.end()
    output = pipe()
    assert f"{NAME}: submitted" in output
    assert f"{NAME}: done" in output
    assert "attack=cw: failed: SLURM-job '7' failed, SLURM status is: 'TIMEOUT'." in output
    assert "1 of 2 cells made, 1 failed; 0:00\n" in output, "CPU time is that of the nodes"


def test_shards_are_named_and_not_counted_as_cells(pipe):
    shards = [job("shard", shard=str(number), shards="2") for number in (1, 2)]
    run = Run()
    run.begin([*shards, job()])
    for number, shard in enumerate(("1", "2")):
        run.start(number, "shard", shard=shard, shards="2")
        run.finish(number)
    run.start(3)
    run.finish(3)
    run.end()
    output = pipe()
    assert f"{NAME} shard=1/2: done, 0 s (0 of 1)" in output
    assert "1 of 1 cell made; " in output


def test_a_job_whose_files_snakemake_refuses_has_failed(pipe):
    run = Run()
    run.begin([job()])
    run.start(1)
    run.say("WorkflowError in rule evaluate:\nMissing files", logging.ERROR, LogEvent.ERROR, exception="WorkflowError")
    run.end()
    output = pipe()
    assert "Missing files" in output
    assert "0 of 1 cell made, 1 failed; " in output


def test_ctrl_c_is_no_failure_of_cells(pipe):
    run = Run()
    run.begin([job(), job("train")])
    run.start(1, "train")
    run.finish(1)
    run.start(2)
    run.say("Terminating processes on user request, this might take some time.")
    run.fail(2)
    run.end()
    output = pipe()
    assert "Terminating processes" in output
    assert "stopped: 1 of 2 cells made, 1 not finished; " in output
    assert "failed" not in output
    assert "the same command continues" in output


@pytest.mark.parametrize(
    ("settings", "wanted", "unwanted"),
    [
        ({}, ["a warning", "an error", "Nothing to be done"], ["a message", "a detail", "gauntlet evaluate"]),
        ({"verbose": True}, ["a message", "a detail", f"{NAME}: started"], ["gauntlet evaluate"]),
        ({"printshellcmds": True}, ["gauntlet evaluate", f"{NAME}: started"], ["a message"]),
        ({"quiet": {Quietness.PROGRESS}}, ["a warning", "1 of 1 cell made"], ["started", "done, 0 s"]),
    ],
)
def test_messages_of_snakemake(pipe, settings, wanted, unwanted):
    run = Run(**settings)
    run.say("before the run")
    run.begin([job()])
    run.start(1)
    run.say("a warning", logging.WARNING)
    run.say("an error", logging.ERROR)
    run.say("a message")
    run.say("a detail", logging.DEBUG)
    run.say("Nothing to be done (all requested files are present and up to date).")
    run.finish(1)
    run.end()
    output = pipe()
    assert [words for words in ["before the run", *wanted] if words not in output] == []
    assert [words for words in unwanted if words in output] == []


@pytest.mark.parametrize("settings", [{"dryrun": True}, {"quiet": {Quietness.ALL}}, {"show": "snakemake"}])
def test_left_to_snakemake(pipe, settings):
    """Snakemake installs its own handler where no plugin writes to the terminal."""
    run = Run(**settings)
    assert not run.handler.writes_to_stream
    run.begin()
    run.start(1)
    run.end()
    assert pipe() == ""


def test_a_display_that_fails_leaves_messages_to_snakemake(pipe, monkeypatch):
    run = Run(quiet=set())
    run.begin([job()])
    monkeypatch.setattr(RunTally, "start", None)
    run.start(1)
    run.say("an error", logging.ERROR)
    run.end()
    output = pipe()
    assert "TypeError" in output
    assert "an error" in output


def test_on_a_terminal_a_block_is_redrawn_below_what_is_printed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    stderr, terminal = sys.stderr, Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ticks = itertools.count()
    # The block is drawn by a thread; here after each step.
    monkeypatch.setattr(
        "gauntlet.pipeline.display.run_display.threading.Thread",
        lambda **_: SimpleNamespace(start=lambda: next(ticks), join=lambda: None),
    )
    run = Run(nocolor=False)
    run.begin([job(), job("train")])
    run.start(1, "train")
    display = run.handler._display
    display.draw()
    assert terminal.lines[-3:] == ["train 0/1  evaluate 0/1", "running:", "  train small variant=softmax seed=0  0:00"]
    assert "0 of 2 cells    0 %  0:00" in terminal.lines[0]
    sys.stderr.write("gauntlet: a message of ")
    assert len(terminal.lines) == 4, "an unfinished line would be overwritten"
    sys.stderr.write("the Snakefile\n")
    assert terminal.lines[0] == "gauntlet: a message of the Snakefile"
    run.finish(1)
    run.start(2)
    run.fail(2)
    display.draw()
    assert [line for line in terminal.lines if "failed" in line][-1].endswith("0:00  1 failed")
    assert "running:" not in terminal.lines
    run.end()
    assert sys.stderr is terminal
    assert CLOCK.sub("", "\n".join(terminal.lines)).splitlines()[1:3] == [
        f"{NAME}: failed: ended without a message ({LOG})",
        "1 of 2 cells made, 1 failed; " + terminal.lines[2].partition("; ")[2],
    ], "the block is gone"
    assert next(ticks) == 1
    sys.stderr = stderr


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_no_color(monkeypatch, tmp_path, environment):
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run = Run(nocolor=False)
    run.begin([job()])
    run.start(1)
    run.fail(1)
    run.end()
    assert not re.search(r"\x1b\[\d*m", terminal.getvalue())
    assert (f"{NAME}: started" in terminal.getvalue()) == (environment["TERM"] == "dumb")


def test_the_block_fits_and_keeps_to_ascii_where_it_must():
    tally = RunTally()
    jobs = [job(attack=f"attack{number % 40}", variant="ünïcode-" * (number % 9)) for number in range(10_000)]
    tally.plan(jobs, 0, lambda _cell: None)
    for number, started in enumerate(jobs[:3000]):
        tally.start(number, started, 0.0)
    for number in range(1500):
        tally.finish(number, 10.0)
    tally.fail(1500, Failure(jobs[1500], "odd", LOG), 10.0)
    for columns, rows in itertools.product((1, 10, 20, 40, 80, 200), (1, 3, 8, 60)):
        for style in (text.Style(), text.Style(is_unicode=False)):
            lines = text.block(tally, 20.0, (columns, rows), style)
            assert 1 <= len(lines) <= max(rows - 1, 1)
            assert max(map(cell_len, lines)) < max(columns, 2)
    head, counts, running, *_, more = text.block(tally, 20.0, (100, 60), text.Style(is_unicode=False))
    assert head == "####--------------------  1500 of 10000 cells   15 %  0:20, about 0:31 left  1 failed"
    assert counts == "evaluate 1500/10000"
    assert running == "running: 1499 evaluate"
    assert more == "  and 1491 more"


@pytest.mark.parametrize(("seconds", "shown"), [(9.8, "0:10, about 0:01 left"), (10.5, "0:10, longer than expected")])
def test_no_cell_has_no_time_left(seconds, shown):
    """A cell that takes longer than before ends some time, and one about to end has not ended."""
    tally = RunTally()
    tally.plan([job()], 0, lambda _cell: 10.0)
    tally.start(1, job(), 0.0)
    assert text.block(tally, seconds, (100, 60), text.Style(is_unicode=False))[0].endswith(
        f"0 of 1 cell    0 %  {shown}"
    )


def test_what_waits_for_a_failed_cell_is_not_in_the_time_left():
    """Until it starts again; the attacks on the other model are."""
    trainings = [job("train", seed=seed) for seed in ("0", "1")]
    attacks = [job(seed=seed, attack=f"attack{number}") for seed in ("0", "1") for number in range(50)]
    tally = RunTally()
    models = {one.cell.ids["seed"]: one.cell for one in trainings}
    tally.plan(
        [*trainings, *attacks],
        0,
        lambda _cell: 60.0,
        lambda cell: [] if cell in models.values() else [models[cell.ids["seed"]]],
    )
    for number, training in enumerate(trainings):
        tally.start(number, training, 0.0)
    tally.finish(0, 60.0)
    tally.fail(1, Failure(trainings[1], "odd", LOG), 60.0)
    # Two at a time so far: 50 attacks of a minute.
    assert tally.seconds_left(60.0) == pytest.approx(25 * 60.0)
    tally.start(1, trainings[1], 60.0)
    assert tally.seconds_left(60.0) == pytest.approx(50.5 * 60.0)


def test_a_terminal_that_is_gone_stops_nothing():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw(["a block"])
    terminal.close()
    screen.print("a line")
    ScreenStream(screen).write("a line\n")
    screen.end()


class TestPlugin(PluginTests):
    """Snakemake's tests of plugins for its log, on the plugin that it finds."""

    __test__ = True

    def get_log_handler_cls(self):  # noqa: D102
        return LoggerPluginRegistry().get_plugin("gauntlet").log_handler

    def get_log_handler_settings(self):  # noqa: D102
        return LogHandlerSettings()
