"""A fork inherits the code and facts that a process of its own would load and fingerprint."""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import subprocess
import sys

import pytest

from gauntlet.pipeline import fingerprint
from gauntlet.pipeline.forking import preloading
from gauntlet.pipeline.forking.preloading import source_digest
from gauntlet.pipeline.stages.catalog import stages
from tests.support.stub_outputs import CONFIG, write_config


def test_any_edit_of_a_source_file_is_seen(tmp_path):
    """Also one of the same length that keeps the time stamps; caches of bytecode do not count."""
    package = tmp_path / "package"
    (package / "part").mkdir(parents=True)
    file = package / "part" / "module.py"
    file.write_text("a = 1\n")
    before, times = source_digest(package), file.stat()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "module.py").write_text("")
    assert source_digest(package) == before
    file.write_text("a = 2\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source_digest(package) != before
    file.write_text("a = 1\n")
    assert source_digest(package) == before
    (package / "part" / "new.py").touch()
    assert source_digest(package) != before
    (package / "part" / "new.py").rename(package / "new.py")
    assert source_digest(package) != before


def test_nothing_is_loaded_of_a_package_that_was_edited(monkeypatch):
    """A module in the middle of an edit may not be importable: the error would end the server with its forks."""
    monkeypatch.setattr(gc, "disable", lambda: None)
    preloaded = preloading.Preloaded()
    monkeypatch.setattr(preloading, "source_digest", lambda: b"edited")
    monkeypatch.setattr(preloading, "_load", lambda _command: pytest.fail("loaded"))
    assert preloaded.prepare("figures") is False


# What was found without the working folder on the path must not be remembered in a fork that has it there.
READING_AHEAD = """
import os, sys
from pathlib import Path
from gauntlet.pipeline import fingerprint
fingerprint.read_ahead("gauntlet.pipeline.stages.evaluate.run")
assert fingerprint._is_own("own_module") is False
fingerprint.read_ahead()
Path("own_module.py").write_text("import json")
sys.path.append(os.getcwd())
assert fingerprint._is_own("own_module") is True
print(len(fingerprint.fingerprint(["gauntlet.pipeline.stages.evaluate.run"])))
"""


def test_reading_ahead_changes_no_fingerprint(tmp_path):
    """Facts about files are kept, places of modules are not."""
    command = [sys.executable, "-P", "-c", READING_AHEAD]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(fingerprint.fingerprint(["gauntlet.pipeline.stages.evaluate.run"]))


# Parses nothing after the server has prepared a command: neither our source nor the configuration.
PREPARED = """
import ast
from pathlib import Path
from gauntlet.config import load, yaml_file
from gauntlet.pipeline.forking.preloading import Preloaded
from gauntlet.pipeline.staleness import Staleness
assert Preloaded().prepare("tables", [Path("config.yaml").absolute()])
ast.parse = yaml_file._Parser = None
staleness = Staleness.of(load([Path("config.yaml")]))
(cell,) = [cell for cell in staleness.graph.cells() if cell.stage.command == "tables"]
print(staleness.outline(cell).modules)
"""


def test_a_fork_parses_neither_source_nor_configuration_again(tmp_path):
    """The modules are those of a process of its own."""
    config = copy.deepcopy(CONFIG)
    del config["experiments"]["small"]["attacks"]["ddn"]  # a library's attack is read by each fork
    write_config(tmp_path, config)
    done = subprocess.run([sys.executable, "-P", "-c", PREPARED], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gauntlet.reporting.tables" in done.stdout


@pytest.mark.parametrize("stage", stages(), ids=str)
def test_late_imports_can_be_imported(stage):
    """A name that does not exist would be passed over in silence."""
    for module in [*stage.late_imports, *filter(None, [stage.fills_caches.partition(":")[0]])]:
        assert importlib.util.find_spec(module) is not None


def test_caches_of_figures_change_no_byte(tmp_path):
    """A figure drawn after `fill_caches` is that of a process of its own."""
    script = (
        "import io, sys\n"
        "from gauntlet.reporting.figures.caches import fill_caches\n"
        "from gauntlet.reporting.figures.style import Style, apply_style\n"
        "if sys.argv[1] == 'filled': fill_caches()\n"
        "style = Style()\n"
        "with apply_style(style):\n"
        "    figure, ((axes,),) = style.figure(1, 1, height_in=1)\n"
        "    axes.plot([1, 2]); axes.set_title('$x^2$')\n"
        "    metadata = {'svg': {'Date': None}, 'pdf': {'CreationDate': None}, 'png': {}}\n"
        "    for suffix in ('svg', 'pdf', 'png'):\n"
        "        figure.savefig(sys.stdout.buffer, format=suffix, metadata=metadata[suffix])\n"
    )
    drawn = [
        subprocess.run([sys.executable, "-c", script, filled], capture_output=True, check=True, cwd=tmp_path).stdout
        for filled in ("filled", "empty")
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0]
