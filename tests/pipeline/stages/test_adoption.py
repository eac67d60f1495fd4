"""Networks that are adopted from checkpoints, and trainings that start from one: results, staleness, readers."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from gauntlet import load_model
from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.stored_images import load_split
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.state import TrainingState
from gauntlet.learning.training.tally import Tally
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.figure.declaration import figures
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.figures.results_files import find_inputs
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.user_networks import Plain

NAME = "tests.support.user_networks:Plain"
DIGITS = {"source": "sklearn_digits", "limit": {"train": 100, "test": 30}}
CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": DIGITS,
            "training": {"epochs": 1},
            "variants": {
                "adopted": {"model": NAME, "weights": ["0.pt", "1.pt"], "normalize": "none"},
                "tuned": {"model": NAME, "training": {"initial_weights": "0.pt"}},
                "trained": {"model": NAME},
            },
            "seeds": [0, 1, 2],
            "diagnostics": {"samples": 4, "steps": 2},
            "attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}},
            "certificates": {"smooth": {"name": "smoothing", "n0": 10, "n": 20}},
        }
    },
    "execution": {"device": "cpu"},
}
ADOPTED = [make_cell("train", "tiny", "adopted", seed) for seed in (0, 1)]


def save_checkpoint(path, seed, **changes):
    """Save a network with random weights and statistics below a key, as from DataParallel; return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Plain(1, 10)
        network.layers[1].running_mean.normal_()
        network.layers[1].running_var.uniform_(0.5, 2)
    state = OrderedDict((f"module.{name}", tensor) for name, tensor in network.state_dict().items())
    torch.save({"epoch": 7, "model_state_dict": state, **changes}, path)
    return network.eval()


def make(folder, *stages, variant=None):
    """Make the cells of some stages that are not current."""
    for name in stages:
        for cell in [cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == name]:
            staleness = staleness_in(folder)
            if variant in (None, cell.variant) and not staleness.is_current(cell):
                cell.stage.run(staleness.job(cell))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two checkpoints, adopted, and attacked."""
    folder = tmp_path_factory.mktemp("adopted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (0, 1):
            save_checkpoint(f"{seed}.pt", seed)
        write_config(folder, CONFIG)
        make(folder, "prepare")
        make(folder, "train", "evaluate", variant="adopted")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, which is the working folder."""
    copied = tmp_path / "run"
    shutil.copytree(made, copied)
    monkeypatch.chdir(copied)
    return copied


def test_the_pipeline_has_the_predictions_of_the_network_bit_for_bit(folder):
    """Weights and BatchNorm statistics are those of the file, and so are logits and clean predictions."""
    images = to_unit(load_split(next(Path("data").iterdir()), "test").images)
    for cell in ADOPTED:
        own, adopted = save_checkpoint("again.pt", cell.seed), load_model(paths.model_folder(cell))
        assert all(map(torch.equal, adopted.body.state_dict().values(), own.state_dict().values()))
        with torch.no_grad():
            logits = own(images)
        assert torch.equal(adopted(images), logits)
        rows = read_table(paths.samples(make_cell("evaluate", "tiny", "adopted", cell.seed, "fgsm")))
        assert rows["clean_prediction"].to_pylist() == logits.argmax(1).tolist()
        assert rows["clean_confidence"].to_pylist() == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=1e-6)


def test_what_was_adopted_is_recorded(folder):
    """The file, its digest, the place in it, the accuracy on validation; the history has no epoch."""
    for cell in ADOPTED:
        (weights, _, history) = cell.outputs
        made = read_metadata(history)
        assert made["gauntlet.checkpoint"] == f"{cell.seed}.pt"
        assert made["gauntlet.checkpoint_entry"] == "model_state_dict"
        assert 0 <= float(made["gauntlet.validation_accuracy"]) <= 1
        assert made["gauntlet.checkpoint_digest"].removeprefix("sha256:") in weights.read_bytes().decode("latin1")
        assert len(read_table(history)) == 0


def test_a_set_of_test_images_only_suffices(folder):
    """The accuracy that is recorded is on test images, and every stage after the adoption has what it needs."""
    edit(folder, lambda experiment: experiment.update(dataset={**DIGITS, "test": "all"}, samples=8))
    make(folder, "prepare")
    make(folder, "train", "evaluate", "certify", "diagnose", "inspect", variant="adopted")
    made = read_metadata(paths.history(ADOPTED[0]))
    assert 0 <= float(made["gauntlet.test_accuracy"]) <= 1
    assert "gauntlet.validation_accuracy" not in made
    assert len(read_table(paths.samples(make_cell("evaluate", "tiny", "adopted", 0, "fgsm")))) == 8
    assert staleness_in(folder).is_current(make_cell("inspect", "tiny", "adopted", 0))


def stale(folder):
    """List the seeds of the adopted models that are not current."""
    staleness = staleness_in(folder)
    return [cell.seed for cell in ADOPTED if not staleness.is_current(cell)]


def edit(folder, change):
    """Write the configuration again after a change of its experiment."""
    config = copy.deepcopy(CONFIG)
    change(config["experiments"]["tiny"])
    write_config(folder, config)


def test_the_bytes_of_a_file_make_exactly_its_seed_stale(folder):
    """Neither its time nor its path does; the cells downstream are redone where the weights differ."""
    assert stale(folder) == []
    os.utime("0.pt")
    Path("elsewhere").mkdir()
    shutil.copy("1.pt", "elsewhere/renamed.pt")
    edit(folder, lambda settings: settings["variants"]["adopted"].update(weights=["0.pt", "elsewhere/renamed.pt"]))
    assert stale(folder) == []
    save_checkpoint("elsewhere/renamed.pt", 1, epoch=8)
    assert stale(folder) == [1]
    attacked = make_cell("evaluate", "tiny", "adopted", 1, "fgsm")
    make(folder, "train", variant="adopted")
    assert staleness_in(folder).is_current(attacked), "the same weights, in another file"
    save_checkpoint("elsewhere/renamed.pt", 5)
    make(folder, "train", variant="adopted")
    assert stale(folder) == []
    assert not staleness_in(folder).is_current(attacked)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda settings: settings.update(training={"epochs": 9, "optimizer": "sgd"}), []),
        (lambda settings: settings.update(seeds=[3, 4]), []),
        (lambda settings: settings["variants"]["adopted"].update(title="A model"), []),
        (lambda settings: settings["variants"]["adopted"].update(normalize="data"), [0, 1]),
        (lambda settings: settings["variants"]["adopted"].update(loss="cross_entropy"), [0, 1]),
        (lambda settings: settings["variants"]["adopted"].update(weights=["1.pt", "0.pt"]), [0, 1]),
    ],
)
def test_the_recipe_is_architecture_content_and_normalization(folder, change, expected):
    """The section `training` does not decide an adopted model."""
    edit(folder, change)
    assert stale(folder) == expected


def test_the_code_of_training_does_not_decide_an_adopted_model(folder):
    """Nor does the code that reads checkpoints decide a model that is trained."""
    staleness = staleness_in(folder)
    modules = {
        name: staleness.outline(make_cell("train", "tiny", name, 0)).modules for name in ("adopted", "tuned", "trained")
    }
    reading, training = "gauntlet.learning.models.checkpoint.reading", "gauntlet.learning.training.loop"
    assert {name for name, used in modules.items() if reading in used} == {"adopted", "tuned"}
    assert {name for name, used in modules.items() if training in used} == {"tuned", "trained"}


@pytest.mark.slow
def test_a_training_starts_from_initial_weights(folder):
    """Its digest is part of the recipe, and that of no other training."""
    edit(folder, lambda settings: settings["training"].update(optimizer={"name": "sgd", "lr": 1e-12}, keep="last"))
    cells = {name: make_cell("train", "tiny", name, 0) for name in ("tuned", "trained")}
    for cell in cells.values():
        cell.stage.run(staleness_in(folder).job(cell))
    start, tuned = save_checkpoint("again.pt", 0), load_model(paths.model_folder(cells["tuned"]))
    for name, value in start.named_parameters():
        assert torch.allclose(tuned.body.get_parameter(name), value, atol=1e-6)
    save_checkpoint("0.pt", 3)
    assert {name for name, cell in cells.items() if not staleness_in(folder).is_current(cell)} == {"tuned"}


@pytest.mark.slow
def test_a_training_that_starts_again_has_its_initial_weights(folder, caplog):
    """A state of another network, under the same recipe, is ignored; what it would have replaced is not lost."""
    edit(folder, lambda settings: settings["training"].update(optimizer={"name": "sgd", "lr": 1e-12}, keep="last"))
    cell = make_cell("train", "tiny", "tuned", 0)
    job = staleness_in(folder).job(cell)
    other = TrainingState(0, 0, {"x": torch.zeros(1)}, {"param_groups": [{"params": []}]}, None, [], Tally())
    file = paths.partial(cell, job.recipe.digest) / "training.checkpoint"
    Checkpoints(file, recipe=job.recipe.digest).save(other)
    cell.stage.run(job)
    assert "the checkpoint does not fit the network" in caplog.text
    start, tuned = save_checkpoint("again.pt", 0), load_model(paths.model_folder(cell))
    for name, value in start.named_parameters():
        assert torch.allclose(tuned.body.get_parameter(name), value, atol=1e-6)


def test_a_checkpoint_that_does_not_fit_leaves_the_model_as_it_was(folder):
    """The error names file and keys; so does one that is missing."""
    before = ADOPTED[0].outputs[0].read_bytes()
    state = Plain(1, 10, width=8).state_dict()
    torch.save(state, "0.pt")
    with pytest.raises(InputError, match=r"0\.pt: its tensors do not fit .*layers\.0\.weight \(8x1x3x3"):
        make(folder, "train", variant="adopted")
    Path("0.pt").unlink()
    assert stale(folder) == [0]
    with pytest.raises(InputError, match=r"0\.pt: there is no such checkpoint"):
        make(folder, "train", variant="adopted")
    assert ADOPTED[0].outputs[0].read_bytes() == before


def test_a_model_that_is_not_better_than_chance_is_warned_of(folder, caplog):
    """Random weights; the probable causes are named."""
    save_checkpoint("0.pt", 9)
    with caplog.at_level(logging.INFO):
        make(folder, "train", variant="adopted")
    assert "adopted 0.pt, 'model_state_dict', accuracy" in caplog.text
    assert "check the weights, the order of the classes, and `normalize:`" in caplog.text


def test_seeds_of_a_design_count_files(folder):
    """No cell of a seed that a variant does not have is planned, or missing."""
    design = design_from_config("tiny", staleness_in(folder).graph.experiment("tiny"))
    assert design.seeds == (0, 1, 2)
    assert {(variant, seed) for variant, seed, _ in design.cells()} == {
        *(("adopted", seed) for seed in (0, 1)),
        *((variant, seed) for variant in ("tuned", "trained") for seed in (0, 1, 2)),
    }
    models = [cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == "train"]
    assert len(models) == 8


@pytest.mark.slow
def test_training_curves_are_those_of_trained_models(folder):
    """An adopted model has no epochs; where nothing is trained there is no such figure."""
    make(folder, "train")
    experiment = staleness_in(folder).graph.experiment("tiny")
    inputs = find_inputs(paths.evaluations("tiny"), design=design_from_config("tiny", experiment))
    assert {history.variant for history in inputs.histories} == {"tuned", "trained"}
    assert inputs.variants == ("adopted", "tuned", "trained")
    assert "training_curves" in figures(staleness_in(folder).graph.scope(ADOPTED[0]))
    edit(
        folder,
        lambda settings: (
            settings["variants"].pop("tuned"),
            settings["variants"].pop("trained"),
            settings.pop("seeds"),
        ),
    )
    assert "training_curves" not in figures(staleness_in(folder).graph.scope(ADOPTED[0]))
