"""Files of the user next to a configuration: their names replace no module, and a taken name is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.core.user_modules import find_user_modules_last
from tests.support.yaml_text import dump_yaml

NETWORK = "import torch\nclass Net(torch.nn.Module):\n    def __init__(self): ...\n"
TAKEN = ("queue", "random", "yaml", "numpy", "json")
"""Modules of Python and of installed packages that the commands import."""


def config_with(model):
    return {
        "experiments": {
            "t": {
                "dataset": {"source": "sklearn_digits", "limit": {"train": 40, "test": 10}},
                "training": {"epochs": 1},
                "variants": {"a": {"model": model}},
            }
        }
    }


def write_config(content):
    Path("config.yaml").write_text(dump_yaml(content))


def gauntlet(*arguments):
    script = Path(sys.executable).with_name("gauntlet")
    return subprocess.run([script, *arguments], capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with files that have the names of modules."""
    monkeypatch.chdir(tmp_path)
    for name in TAKEN:
        Path(f"{name}.py").write_text(f"raise RuntimeError('{name} of the user')\n")
    Path("torch").mkdir()
    Path("torch/__init__.py").write_text("raise RuntimeError('torch of the user')\n")
    return tmp_path


@pytest.mark.slow
def test_files_next_to_a_configuration_replace_no_module(folder):
    """`prepare` imports libraries and starts processes; none of them imports a file that nothing names."""
    write_config(config_with("mnist_cnn"))
    done = gauntlet("prepare")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "owner"),
    [
        ("random", "Python"),
        ("math", "Python"),
        ("yaml", "an installed package"),
        ("torch.nets", "an installed package"),
    ],
)
def test_a_taken_name_is_reported_in_one_line(folder, module, owner):
    """The message names the file and who owns the name."""
    file = Path(*module.split(".")).with_suffix(".py")
    file.write_text(NETWORK)
    write_config(config_with(f"{module}:Net"))
    done = gauntlet("check")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"{file} is not found: '{module.partition('.')[0]}' is a module of {owner}; rename it" in line


def test_a_free_name_is_found_in_files_and_folders(folder):
    """A folder needs no `__init__.py`."""
    Path("sub").mkdir()
    for name, file in (("own_nets", "own_nets.py"), ("sub.net", "sub/net.py")):
        Path(file).write_text(NETWORK)
        write_config(config_with(f"{name}:Net"))
        done = gauntlet("check")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_of_pythonpath_keeps_its_place(folder, monkeypatch, named):
    """The user's own order of the path counts; else the working folder is the last one."""
    monkeypatch.setattr(sys, "path", ["", str(folder), "/elsewhere"])
    environment = {"PYTHONPATH": f"/other:{folder}"} if named else {}
    find_user_modules_last(environment)
    assert sys.path == (["", str(folder), "/elsewhere"] if named else ["/elsewhere", str(folder)])
    assert environment["PYTHONSAFEPATH"] == "1"


STARTS = {
    "fork server": "from gauntlet.pipeline.forking import client, launch; launch.start([1]); "
    "client.run_in_fork('gauntlet', ['train', '--threads', '1', '--help']); sys.exit('the server did not answer')",
    "torchrun": "from gauntlet.pipeline.stages import torchrun as it; it.launch(['--version'], 1, where='a test')",
    "snakemake": "from gauntlet.pipeline.cluster.controller import submission as it; "
    "it._dry_run(['--version'], it.SAFE_PATH)",
}


SLOW = [name for name in STARTS if name != "fork server"]


@pytest.mark.parametrize(
    "program", [pytest.param(STARTS[name], marks=[pytest.mark.slow] * (name in SLOW), id=name) for name in STARTS]
)
def test_processes_that_are_started_import_none_of_them(folder, program):
    """`python -m` puts the working folder first on the path."""
    done = subprocess.run([sys.executable, "-P", "-c", f"import sys; {program}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
