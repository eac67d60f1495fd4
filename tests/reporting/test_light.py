"""Tables, figures and page from the results file alone, in the environment of `make light` without torch."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gauntlet.pipeline.project import CHECKOUT_FILES
from tests.support import ROOT, synthetic

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """The command of the light environment, built in a copy of the checkout's packaging files."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src", *CHECKOUT_FILES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    done = subprocess.run(["make", "light"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / ".light" / "bin"


def test_the_environment_has_no_torch(light):
    """The import fails."""
    done = subprocess.run([light / "python", "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["figures", "--out", "here"], "here/robust_accuracy.pdf"),
        (["tables", "--out", "here"], "here/table.tex"),
        (["report", "--out", "here.html"], "here.html"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_paper_and_the_page_are_made_from_one_file(light, tmp_path, arguments, made):
    """The folder holds nothing but the results file."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1))
    whole = synthetic.write_experiment(tmp_path / "whole", plan, samples=30)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(whole.evaluations, alone / "evaluations.parquet")
    command = [light / "gauntlet", arguments[0], "evaluations.parquet", *arguments[1:]]
    done = subprocess.run(command, cwd=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (alone / made).stat().st_size > 1000
