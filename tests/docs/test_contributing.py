"""CONTRIBUTING.md is true: what it adds is found by the package, and its tables list what there is."""

from __future__ import annotations

import json
import re
import shutil
import tomllib

import pytest

from tests.support import ROOT, synthetic
from tests.support.contributions import PAGE, clone_with, files_of, run_module
from tests.support.stub_outputs import CONFIG, write_config

RUN_ATTACK = """
import torch
import gauntlet

images, labels = torch.full((8, 1, 4, 4), 0.5), torch.tensor([0, 1] * 4)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
attack = {"name": "ni_fgsm", "norm": "linf", "epsilons": [0.1, 0.4], "steps": 5}
print("fooled", gauntlet.evaluate(model, images, labels, attack)["status"].to_pylist().count("adversarial"))
"""


@pytest.fixture(scope="module")
def with_attack(tmp_path_factory):
    """A clone with the attack of the page, and a configuration that names it."""
    folder = clone_with("Add an attack", tmp_path_factory.mktemp("attack"))
    attacks = {"nesterov": {"name": "ni_fgsm", "norm": "linf", "epsilons": [0.1]}}
    settings = {**CONFIG["experiments"]["small"], "attacks": attacks}
    write_config(folder, {"experiments": {"small": settings}})
    return folder


def test_an_attack_is_one_file(with_attack):
    """`gauntlet check` accepts the attack, and the two generated tables list it."""
    assert len(files_of("Add an attack")) == 1
    assert "6 evaluate" in run_module(with_attack, "gauntlet", "check")
    reference = run_module(with_attack, "gauntlet.config.reference")
    row = re.search(r"^\| `ni_fgsm` \|.*$", reference, flags=re.MULTILINE)[0]
    assert "`decay` (1.0)" in row
    assert "arXiv:1908.06281" in row
    shutil.copy(ROOT / "README.md", with_attack)
    run_module(with_attack, "gauntlet.config.attack_table", "README.md")
    assert "| `ni_fgsm` | L∞ | gradient | bounded |" in (with_attack / "README.md").read_text()


@pytest.mark.slow
def test_the_attack_runs(with_attack):
    """Half of the identical images have the wrong label; the attack fools the model on the others."""
    (with_attack / "attacking.py").write_text(RUN_ATTACK)
    assert "fooled 4" in run_module(with_attack, "attacking")


@pytest.mark.slow
def test_a_figure_is_one_module_and_a_line(tmp_path):
    """The graph has the figure where `TOUR` lists it, and it is drawn from results."""
    folder = clone_with("Add a figure", tmp_path)
    assert len(files_of("Add a figure")) == 1
    line = re.search(r"^```python\n(    \"\w+\",\n)```$", PAGE, flags=re.MULTILINE)[1]
    catalog = folder / "src/gauntlet/reporting/figures/catalog.py"
    catalog.write_text(catalog.read_text().replace("TOUR = (\n", f"TOUR = (\n{line}"))
    write_config(folder, CONFIG)
    status = json.loads(run_module(folder, "gauntlet", "status", "--json"))
    assert next(cell["name"] for cell in status["cells"] if cell["stage"] == "figure") == "clean_accuracy"
    plan = synthetic.plan(("softmax", "lipschitz"), (0,), synthetic.ATTACKS[:1])
    made = synthetic.write_experiment(tmp_path / "whole", plan, samples=20)
    shutil.copy(made.evaluations, tmp_path / "evaluations.parquet")
    drawn = run_module(folder, "gauntlet", "figures", "evaluations.parquet", "--out", "figures")
    assert drawn.splitlines()[0] == "figures/clean_accuracy.pdf"
    assert {file.suffix for file in tmp_path.glob("figures/clean_accuracy.*")} == {".pdf", ".svg", ".png"}


def test_the_layout_lists_every_folder():
    """The table of the layout has the folders of the package."""
    package = ROOT / "src" / "gauntlet"
    section = PAGE.partition("\n## Layout\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)/` \|", section, flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.parent.name for path in package.glob("*/__init__.py"))
    missing = [
        (wing, part)
        for wing, content in re.findall(r"^\| `(\w+)/` \| (.*) \|$", section, flags=re.MULTILINE)
        for part in re.findall(r"`(\w+)/`", content)
        if not (package / wing / part).is_dir()
    ]
    assert missing == []


def test_every_dependency_has_a_reason():
    """The table of dependencies lists those of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    section = PAGE.partition("\n## Why each dependency\n")[2]
    rows = re.findall(r"^\| ([a-z][^|]*) \|", section, flags=re.MULTILINE)
    listed = {name.strip() for row in rows for name in row.split(",")} - {"package"}
    assert listed == {re.match(r"[\w.-]+", requirement)[0] for requirement in required}
