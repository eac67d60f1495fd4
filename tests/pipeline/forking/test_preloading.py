"""A fork inherits the code and facts that a process of its own would load and fingerprint."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from gauntlet.pipeline import fingerprint
from gauntlet.pipeline.forking.preloading import source_digest
from gauntlet.pipeline.stages.catalog import stages


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


@pytest.mark.parametrize("stage", stages(), ids=str)
def test_late_imports_can_be_imported(stage):
    """A name that does not exist would be passed over in silence."""
    for module in stage.late_imports:
        assert importlib.util.find_spec(module) is not None
