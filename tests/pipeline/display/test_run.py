"""A real run of Snakemake with the display: on a terminal, with a cell that fails, and stopped by Ctrl-C."""

from __future__ import annotations

import copy
import os
import re
import signal
import sys

import pytest

from tests.support.stub_outputs import finish_cells, staleness_in, write_config
from tests.support.terminal import run_on_terminal, shown_lines
from tests.support.workflow import TINY, link_workflow

COMMAND = [sys.executable, "-m", "snakemake", "--profile", "local"]
FIGURE = "figure small name=coverage"

# Run at the start of each Python: the cell waits for a file, so that it runs when Snakemake is stopped.
WAITING = """
import os, sys, time
begun_s = time.monotonic()
while "prepare" in sys.orig_argv and not os.path.exists("released") and time.monotonic() < begun_s + 600:
    time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run of stubs that lacks a figure, which cannot be drawn from them, and the data set of another experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    config = copy.deepcopy(TINY)
    other = {"dataset": {"source": "sklearn_digits", "validation": 0.25}}
    config["experiments"]["other"] = config["experiments"]["small"] | other
    write_config(tmp_path, config)
    link_workflow(tmp_path)
    finish_cells(tmp_path)
    (tmp_path / "results/small/figures/coverage.pdf").unlink()
    _, cell = [cell for cell in staleness_in(tmp_path).graph.cells() if cell.stage.name == "prepare"]
    for path in cell.outputs:
        path.unlink()
    return tmp_path, cell


def test_on_a_terminal(folder):
    path, data = folder
    code, written = run_on_terminal([*COMMAND, "results/small/figures/coverage.pdf", str(data.outputs[0])], cwd=path)
    assert code == 1
    # A terminal shows ^C and the like; nothing else is written over another line.
    lines = shown_lines(written)
    text = "\n".join(lines)
    assert not re.search(r"Building DAG|Select jobs|Execute|jobid|Traceback|RuleException|Restored", text)
    assert "planning" in written
    assert re.search(rf"running:.*{re.escape(str(data))}  \d:\d\d", written, flags=re.DOTALL)
    assert text.count(f"{FIGURE}: failed: gauntlet: ") == 2
    assert f"{FIGURE}: started again, attempt 2" in text
    assert "gauntlet status config.yaml: what failed, and why" in text, "the message of the Snakefile"
    assert lines[-2].startswith("1 of 2 cells made, 1 failed, ")
    assert lines[-1].startswith(f"failed: {FIGURE}: gauntlet: ")
    assert lines[-1].endswith("(logs/small/figure.coverage.log)")
    (log,) = (path / ".snakemake/log").glob("*.log")
    assert "Select jobs to execute" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_stopped(folder, end):
    """Ctrl-C and `kill` leave lines and a cursor at the start of one."""
    path, data = folder
    (path / "start").mkdir()
    (path / "start/sitecustomize.py").write_text(WAITING)
    search = os.pathsep.join([str(path / "start"), os.environ.get("PYTHONPATH", "")])
    stopped = []

    def stop(process, written):
        if b"running:" in written and not stopped:
            stopped.append(os.kill(process, end))
        # Snakemake, which alone is signaled here, waits for the cell.
        if stopped and (end == signal.SIGTERM or b"Terminating processes" in written):
            (path / "released").touch()

    command = [*COMMAND, str(data.outputs[0])]
    code, written = run_on_terminal(command, cwd=path, on_output=stop, env={"PYTHONPATH": search})
    lines = shown_lines(written)
    assert code == 1
    assert "running:" not in lines
    assert "\x1b[?25l" not in written, "the cursor is never hidden"
    if end == signal.SIGINT:
        assert any(line.startswith("stopped: 0 of 1 cell made, 1 not finished") for line in lines)
        assert lines[-1] == "the same command continues"
    else:
        assert lines[-1].startswith("1 of 1 cell made")
