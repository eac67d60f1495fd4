"""The inspect stage: one table per variant, of its first seed, with its figures."""

from __future__ import annotations

import pytest

from gauntlet.config import Cell
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages import figure, inspect, prepare, train
from gauntlet.pipeline.staleness import require_current_inputs
from gauntlet.robustness.inspection.arrays import read_arrays
from tests.support.stub_outputs import plan_in, write_config

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
    for cell in [cell for cell in plan_in(folder).cells() if cell.stage == stage and (cell.name in names or not names)]:
        plan = plan_in(folder)
        if not plan.is_current(cell):
            STAGES[stage].run(plan, cell, require_current_inputs(plan, cell))


def test_the_first_seed_of_every_variant_is_inspected(folder, monkeypatch):
    """It is the configuration's first seed, and only variants with negatives show any."""
    monkeypatch.chdir(folder)
    cells = [cell for cell in plan_in(folder).cells() if cell.stage == "inspect"]
    assert cells == [Cell("inspect", "tiny", variant, 3) for variant in ("plain", "negative")]
    assert all(plan_in(folder).is_current(cell) for cell in cells)
    assert [len(read_arrays(paths.inspection(cell), "negative")) for cell in cells] == [0, 4]
    assert [len(read_arrays(paths.inspection(cell), "filter", "unit", "class")) for cell in cells] == [18, 18]


def test_the_same_model_gives_the_same_digest(folder, monkeypatch):
    """A repeated inspection has the same rows."""
    monkeypatch.chdir(folder)
    cell = Cell("inspect", "tiny", "negative", 3)
    before = plan_in(folder).digest(paths.inspection(cell))
    paths.inspection(cell).unlink()
    make(folder, "inspect")
    assert plan_in(folder).digest(paths.inspection(cell)) == before


def test_its_figures_need_no_attack(folder, monkeypatch):
    """They are drawn in an experiment that only trains."""
    monkeypatch.chdir(folder)
    names = {"activation_functions", "first_layer_filters", "image_transition", "negative_examples", "unit_patterns"}
    assert set(plan_in(folder).figures("tiny")) == {*names, "training_curves"}
    make(folder, "figure", "negative_examples")
    assert paths.figure("tiny", "negative_examples", "svg").is_file()
