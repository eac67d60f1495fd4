"""A copy of the code for a run: what it has, and that edits of the original do not reach the run."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.core.provenance.environment import environment
from gauntlet.core.provenance.run_metadata import commit
from gauntlet.pipeline.cluster.controller.frozen_code import freeze
from gauntlet.pipeline.fingerprint import read_ahead
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY

ATTACK = """
from gauntlet.registry import ATTACKS
from mine.parts import moved
@ATTACKS.register('own', kind='bounded', norms=('linf',), access='scores', source='none')
def own(model, x, y, *, epsilon):
    return moved(x, epsilon)
"""
PARTS = "def moved(x, epsilon):\n    return (x + epsilon).clamp(0, 1)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a package of the user, of which a configuration names a module."""
    config = copy.deepcopy(TINY)
    attack = {"name": "mine.attacks:own", "norm": "linf", "epsilons": [0.1]}
    config["experiments"]["small"] |= {"attacks": {"own": attack}, "certificates": {}, "diagnostics": {"samples": 4}}
    write_config(tmp_path, config)
    for name, text in {"__init__": "", "attacks": ATTACK, "parts": PARTS, "unused": "X = 1\n"}.items():
        file = tmp_path / "mine" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    Path(tmp_path, "mine", "table.txt").write_text("1 2 3")
    Path(tmp_path, "notes.py").write_text("unreached")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    read_ahead()  # forgets where modules were found in the folder of another test
    return tmp_path


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_has_packages_workflow_modules_and_configuration(folder):
    """A package of the user is whole; a module that no cell reaches is left out."""
    code = freeze([Path("config.yaml")])
    names = files_below(code.folder)
    package = "packages/gauntlet"
    wanted = {"core/norms.py", "pipeline/checkout/workflow/Snakefile", "pipeline/checkout/profiles/slurm/config.yaml"}
    assert {f"{package}/{name}" for name in wanted} <= names
    assert "packages/snakemake_logger_plugin_gauntlet/__init__.py" in names
    modules = {name for name in names if name.startswith("modules/")}
    assert modules == {
        f"modules/mine/{name}" for name in ("__init__.py", "attacks.py", "parts.py", "unused.py", "table.txt")
    }
    assert [path.read_text() for path in code.configs] == [Path("config.yaml").read_text()]
    assert not [name for name in names if "__pycache__" in name]


def test_equal_code_has_one_copy_and_others_are_removed_on_request(folder):
    """The folder is named by its content."""
    first = freeze([Path("config.yaml")])
    assert freeze([Path("config.yaml")]) == first
    Path("mine/parts.py").write_text(f"{PARTS}\nY = 1\n")
    second = freeze([Path("config.yaml")])
    assert second.folder != first.folder
    assert first.folder.exists()
    second.remove_others()
    assert [path.name for path in first.folder.parent.iterdir()] == [second.folder.name]


def run_python(code, environment):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_with_the_copys_environment_imports_the_copy(folder):
    """Our package and the user's module; the working folder still has modules that were not copied."""
    code = freeze([Path("config.yaml")])
    imports = "from gauntlet.core.user_modules import find_user_modules_last; find_user_modules_last(); "
    where = run_python(f"{imports}import gauntlet, mine; print(gauntlet.__file__, mine.__file__)", code.environment)
    assert [Path(file).is_relative_to(code.folder) for file in where.split()] == [True, True]
    Path("notes.py").write_text("Z = 3\n")
    assert run_python(f"{imports}import notes; print(notes.Z)", code.environment) == "3"


def test_the_copy_states_the_commit_of_the_original(folder):
    """It is not that of whatever repository holds the copy when it runs."""
    code = freeze([Path("config.yaml")])
    show = "from gauntlet.core.provenance.run_metadata import commit; print(commit())"
    assert run_python(show, code.environment) == str(commit())


def test_the_copy_has_the_environment_of_the_original(folder):
    """With `strict_environment` it is in every recipe; there is no lock in the working folder."""
    code = freeze([Path("config.yaml")])
    show = "from gauntlet.core.provenance.environment import environment; print(dict(environment()))"
    assert run_python(show, code.environment) == str(dict(environment()))
    assert "lock" in environment()


@pytest.mark.slow
def test_edits_do_not_reach_a_run_from_the_copy_and_its_results_are_current(folder):
    """The run ends as if nothing was edited; the original code finds nothing stale once the edits are undone."""
    code = freeze([Path("config.yaml")])
    originals = {name: Path(name).read_text() for name in ("mine/parts.py", "mine/attacks.py", "config.yaml")}
    for name in originals:
        Path(name).write_text("raise RuntimeError('being edited')\n")
    run = [sys.executable, "-m", "gauntlet", "run"]
    configs = ["--configfile", *map(str, code.configs)]
    done = subprocess.run([*run, *configs], env=os.environ | code.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, text in originals.items():
        Path(name).write_text(text)
    planned = subprocess.run([*run, "-n"], capture_output=True, text=True, check=True)
    shown = planned.stdout + planned.stderr
    assert "evaluate" not in shown, shown
