"""The inspect stage: one table per variant, of its first seed, with its figures."""

from __future__ import annotations

import pytest

from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.figure import run as figure
from gauntlet.pipeline.stages.inspect import run as inspect
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from gauntlet.robustness.inspection.arrays import read_arrays
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

SIGMOID = {"model": {"name": "cnn", "widths": [4], "head": "sigmoid"}, "loss": "sigmoid_bce"}
CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 100, "test": 30}},
            "seeds": [3, 1],
            "training": {"epochs": 1},
            "variants": {"plain": SIGMOID, "negative": {**SIGMOID, "training": {"negatives": "overlay"}}},
        }
    },
    "execution": {"device": "cpu"},
}
STAGES = {"prepare": prepare, "train": train, "inspect": inspect, "figure": figure}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two inspected models."""
    folder = tmp_path_factory.mktemp("inspected")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_config(folder, CONFIG)
        for stage in ("prepare", "train", "inspect"):
            make(folder, stage)
    return folder


def make(folder, stage, *names):
    """Make the cells of a stage that are not current, or those of some names."""
    for cell in [
        cell
        for cell in staleness_in(folder).graph.cells()
        if cell.stage.name == stage and (cell.name in names or not names)
    ]:
        staleness = staleness_in(folder)
        if not staleness.is_current(cell):
            STAGES[stage].run(staleness.job(cell))


def test_the_first_seed_of_every_variant_is_inspected(folder, monkeypatch):
    """It is the configuration's first seed, and only variants with negatives show any."""
    monkeypatch.chdir(folder)
    cells = [cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == "inspect"]
    assert cells == [make_cell("inspect", "tiny", variant, 3) for variant in ("plain", "negative")]
    assert all(staleness_in(folder).is_current(cell) for cell in cells)
    assert [len(read_arrays(paths.inspection(cell), "negative")) for cell in cells] == [0, 4]
    assert [len(read_arrays(paths.inspection(cell), "filter", "unit", "class")) for cell in cells] == [18, 18]


def test_the_same_model_gives_the_same_digest(folder, monkeypatch):
    """A repeated inspection has the same rows."""
    monkeypatch.chdir(folder)
    cell = make_cell("inspect", "tiny", "negative", 3)
    before = staleness_in(folder).digest(paths.inspection(cell))
    paths.inspection(cell).unlink()
    make(folder, "inspect")
    assert staleness_in(folder).digest(paths.inspection(cell)) == before


def test_its_figures_need_no_attack(folder, monkeypatch):
    """They are drawn in an experiment that only trains."""
    monkeypatch.chdir(folder)
    names = {"activation_functions", "first_layer_filters", "image_plane", "image_transition", "leaky_activations"}
    names |= {"negative_examples", "unit_patches", "unit_patterns"}
    cells = staleness_in(folder).graph.cells_of("tiny")
    assert {cell.name for cell in cells if cell.stage.name == "figure"} == {*names, "training_curves"}
    make(folder, "figure", "negative_examples")
    assert paths.figure("tiny", "negative_examples", "svg").is_file()
