"""The inputs of figures, found in a results folder: current files, planned models, labels of histories."""

from __future__ import annotations

import copy

import pytest

from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.pipeline import paths
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.figures.history_labels import labeled_history, loss_label
from gauntlet.reporting.figures.inputs import HistoryFile
from gauntlet.reporting.figures.results_files import find_inputs
from tests.support import synthetic
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, staleness_in, write_config

SMALL = "small"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A configuration whose models have histories with the recipes that training writes into them."""
    config = copy.deepcopy(CONFIG)
    fgsm = {"name": "fgsm", "epsilon": 0.01, "random_start": False}
    noise = {"adversary": {"name": "gaussian", "sigma": 0.25}}
    config["experiments"][SMALL]["variants"] = {
        "plain": {"model": "cnn"},
        "smooth": {"model": "cnn", "loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
        "noisy": {"model": "cnn", "training": noise},
        "both": {"model": "cnn", "training": {**noise, "validation_adversary": fgsm}},
        "lipschitz": {"model": "lipschitz_cnn", "loss": {"name": "hkr", "alpha": 100}},
    }
    write_config(tmp_path, config)
    monkeypatch.chdir(tmp_path)
    staleness = staleness_in(tmp_path)
    for model in [cell for cell in staleness.graph.cells() if cell.stage.name == "train"]:
        write_table(paths.history(model), synthetic.history(model), staleness.outline(model).metadata())
    return staleness


def test_losses_and_adversaries_are_labeled_with_what_distinguishes_them(planned):
    """Options that are not the default, norm and budget; a validation adversary before the training's own."""
    inputs = find_inputs(paths.evaluations(SMALL), design=design_from_config(SMALL, planned.graph.experiment(SMALL)))
    assert {item.variant: item.adversary for item in inputs.histories} == {
        "plain": "",
        "smooth": "",
        "noisy": "gaussian 0.25",
        "both": "fgsm linf 0.01",
        "lipschitz": "",
    }
    assert inputs.variants_by_loss() == {
        "cross_entropy": ("plain", "noisy", "both"),
        "cross_entropy, label_smoothing 0.1": ("smooth",),
        "hkr": ("lipschitz",),
    }


def test_only_planned_models_are_read_in_the_order_of_the_plan(planned):
    """Files of a seed or variant that left the configuration stay in the folder, but are in no figure."""
    for left_over in (make_cell("train", SMALL, "plain", 7), make_cell("train", SMALL, "removed", 0)):
        write_table(paths.history(left_over), synthetic.history(left_over), {})
    inputs = find_inputs(paths.evaluations(SMALL), design=design_from_config(SMALL, planned.graph.experiment(SMALL)))
    variants = ("plain", "smooth", "noisy", "both", "lipschitz")
    assert [(item.variant, item.seed) for item in inputs.histories] == [
        (name, seed) for name in variants for seed in (0, 1)
    ]


def test_only_current_files_are_read(planned):
    """The pipeline passes the files that are neither missing nor stale."""
    current = [
        paths.history(make_cell("train", SMALL, "both", 1)),
        paths.history(make_cell("train", SMALL, "absent", 1)),
    ]
    design = design_from_config(SMALL, planned.graph.experiment(SMALL))
    inputs = find_inputs(paths.evaluations(SMALL), design=design, current=current)
    assert [item.path for item in inputs.histories] == current[:1]


def test_a_history_is_labeled_by_its_recipe(tmp_path):
    """Without a recipe both labels are empty."""
    adversary = {"name": "pgd", "norm": "linf", "epsilon": 0.3, "steps": 7}
    loss = {"name": "cross_entropy", "label_smoothing": 0.1}
    recipe = Recipe("train", {"loss": loss, "training": {"adversary": adversary, "validation_adversary": None}}, {})
    history = synthetic.history(make_cell("train", "digits", "softmax", 0))
    write_table(tmp_path / "with.parquet", history, recipe.metadata())
    write_table(tmp_path / "without.parquet", history, {})
    assert labeled_history("softmax", 0, tmp_path / "with.parquet") == HistoryFile(
        "softmax", 0, tmp_path / "with.parquet", "cross_entropy, label_smoothing 0.1", "pgd linf 0.3"
    )
    unlabeled = HistoryFile("softmax", 0, tmp_path / "without.parquet")
    assert labeled_history("softmax", 0, tmp_path / "without.parquet") == unlabeled


def test_a_user_loss_is_labeled_where_its_module_is_not_on_the_path():
    """Results travel without the files that made them."""
    assert loss_label({"name": "my_losses:mine", "weight": 2.0}) == "my_losses:mine, weight 2"
