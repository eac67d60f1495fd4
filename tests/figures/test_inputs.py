"""What figures are told of a training beside its history."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import synthetic

from gauntlet.config.grid import Cell
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.pipeline.stages import figure_inputs as inputs
from gauntlet.reporting.figures import History
from gauntlet.reporting.figures.training_names import history_of, loss_name
from tests.workflow.pretend import CONFIG, plan_in, write_config


def test_losses_and_adversaries_are_named_with_what_tells_them_apart(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that are not the default, norm and budget; a validation adversary before the training's own."""
    config = copy.deepcopy(CONFIG)
    fgsm = {"name": "fgsm", "epsilon": 0.01, "random_start": False}
    noise = {"adversary": {"name": "gaussian", "sigma": 0.25}}
    config["experiments"]["small"]["variants"] = {
        "plain": {"model": "cnn"},
        "smooth": {"model": "cnn", "loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
        "noisy": {"model": "cnn", "training": noise},
        "both": {"model": "cnn", "training": {**noise, "validation_adversary": fgsm}},
        "lipschitz": {"model": "lipschitz_cnn", "loss": {"name": "hkr", "alpha": 100}},
    }
    write_config(tmp_path, config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "load_data_manifest", lambda _: SimpleNamespace(classes=()))
    told = inputs.figure_inputs(plan_in(tmp_path), "small")
    assert {one.variant: one.opponent for one in told.histories} == {
        "plain": "",
        "smooth": "",
        "noisy": "gaussian 0.25",
        "both": "fgsm linf 0.01",
        "lipschitz": "",
    }
    assert told.losses() == {
        "cross_entropy": ("plain", "noisy", "both"),
        "cross_entropy, label_smoothing 0.1": ("smooth",),
        "hkr": ("lipschitz",),
    }


def test_a_history_says_what_its_training_was(tmp_path):
    """What the pipeline knows from the configuration, figures from results alone know from the file's own recipe."""
    adversary = {"name": "pgd", "norm": "linf", "epsilon": 0.3, "steps": 7}
    loss = {"name": "cross_entropy", "label_smoothing": 0.1}
    made = Recipe("train", {"loss": loss, "training": {"adversary": adversary, "validation_adversary": None}}, {})
    history = synthetic.history(Cell("train", "digits", "softmax", 0))
    write_table(tmp_path / "told.parquet", history, made.metadata())
    write_table(tmp_path / "silent.parquet", history, {})
    assert history_of("softmax", 0, tmp_path / "told.parquet") == History(
        "softmax", 0, tmp_path / "told.parquet", "cross_entropy, label_smoothing 0.1", "pgd linf 0.3"
    )
    assert history_of("softmax", 0, tmp_path / "silent.parquet") == History("softmax", 0, tmp_path / "silent.parquet")


def test_a_loss_of_the_user_is_named_where_its_module_is_not():
    """Results travel without the files that made them."""
    assert loss_name({"name": "my_losses:mine", "weight": 2.0}) == "my_losses:mine, weight 2"
