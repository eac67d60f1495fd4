"""The quick forms of the documents' experiments, made still smaller: they end with their pages."""

from __future__ import annotations

import shutil

import pytest

from gauntlet.config.quick import quick_name
from gauntlet.pipeline import paths
from tests.support import ROOT
from tests.support.real_data import DATA, needs_data
from tests.support.stages import run_stages
from tests.support.stub_outputs import write_config
from tests.support.yaml_text import parse_yaml

EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))

pytestmark = [pytest.mark.slow, needs_data]


def smaller(experiment):
    """Return an experiment whose quick form, if it has one, is smaller, on the real data sets."""
    root = {"data/raw": str(DATA), "data/raw/cifar10-jpeg": str(DATA / "cifar10-jpeg")}
    experiment["dataset"]["root"] = root[experiment["dataset"]["root"]]
    if quick := experiment.get("quick"):
        quick["dataset"]["limit"] = {"train": 300, "test": 60}
        quick["samples"] = 5
        quick.setdefault("seeds", [0, 1])
        quick["diagnostics"] = {"samples": 5, "steps": 2}
    return experiment


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_quick_form_ends_with_its_page(tmp_path, file):
    """Every stage succeeds, so that each figure is drawn that the graph expects."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    content = parse_yaml(file.read_text())
    experiments = {name: smaller(experiment) for name, experiment in content["experiments"].items()}
    write_config(tmp_path, {**content, "experiments": experiments})
    # The further experiments of a file repeat the first one on other data.
    name = quick_name(next(name for name, experiment in experiments.items() if "quick" in experiment))
    run_stages(tmp_path, experiment=name)
    assert (tmp_path / paths.report(name)).exists()
