"""Variants whose model is chosen from candidates by validation: results, staleness, failures, figures and page."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file

from gauntlet import load_model
from gauntlet.core.errors import GauntletError
from gauntlet.core.parquet import read_columns, read_metadata, read_table, write_table
from gauntlet.learning.training.history import history_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster.partitions import Partition
from gauntlet.pipeline.cluster.resources import JobResources
from gauntlet.pipeline.stages.figure.declaration import figures
from gauntlet.pipeline.status.costs import Costs
from gauntlet.reporting.figures.results_files import find_inputs
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

pytestmark = pytest.mark.slow

NAME, OTHER = "tests.support.user_networks:Plain", "tests.support.unsound_networks:Base"
CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 100, "test": 30}},
            "training": {"epochs": 2, "batch_size": 32},
            "variants": {
                "slow": {"model": NAME, "training": {"optimizer": {"name": "adam", "lr": 1e-5}}},
                "fast": {"model": NAME, "training": {"optimizer": {"name": "adam", "lr": 3e-2}}},
                "tuned": {"chosen_from": ["slow", "fast"], "by": "validation_loss", "title": "Tuned"},
                "plain": {"model": OTHER},
                "accurate": {"chosen_from": ["plain", "fast"], "by": "validation_accuracy", "over": "all_seeds"},
            },
            "seeds": [0, 1],
            "diagnostics": {"enabled": False},
            "attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}},
        }
    },
    "execution": {"device": "cpu"},
}


def train(variant, seed=0):
    """Return the cell of a model."""
    return make_cell("train", "tiny", variant, seed)


def make(folder, *stages):
    """Make the cells of some stages that are not current; return them."""
    made = []
    for name in stages:
        for cell in [cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == name]:
            staleness = staleness_in(folder)
            if not staleness.is_current(cell):
                cell.stage.run(staleness.job(cell))
                made.append(cell)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all models, attacked and aggregated."""
    folder = tmp_path_factory.mktemp("chosen")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_config(folder, CONFIG)
        make(folder, "prepare", "train", "evaluate", "aggregate")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, which is the working folder."""
    copied = tmp_path / "run"
    shutil.copytree(made, copied)
    monkeypatch.chdir(copied)
    return copied


def edit(folder, change):
    """Write the configuration again after a change of its experiment."""
    config = copy.deepcopy(CONFIG)
    change(config["experiments"]["tiny"])
    write_config(folder, config)


def stale(folder):
    """List the cells of models, attacks and summaries that are not current, whatever their inputs are."""
    staleness = staleness_in(folder)
    names = ("train", "evaluate", "aggregate")
    return [
        str(cell) for cell in staleness.graph.cells() if cell.stage.name in names and not staleness.is_current(cell)
    ]


def record(variant, seed=0):
    """Return the record of a choice."""
    return json.loads(paths.model_manifest(train(variant, seed)).read_text())["choice"]


def test_a_chosen_model_is_the_best_candidate_to_the_bit(folder):
    """Weights, network, loss and history are the winner's; the figures are those of the epoch that was kept."""
    for seed in (0, 1):
        source, chosen = train("fast", seed), train("tuned", seed)
        assert record("tuned", seed)["chosen"] == "fast"
        kept = load_file(paths.model_weights(source))
        assert {name: tensor.tolist() for name, tensor in load_file(paths.model_weights(chosen)).items()} == {
            name: tensor.tolist() for name, tensor in kept.items()
        }
        images = torch.rand(2, 1, 8, 8)
        assert torch.equal(
            load_model(paths.model_folder(chosen))(images), load_model(paths.model_folder(source))(images)
        )
        assert read_table(paths.history(chosen)).equals(read_table(paths.history(source)))
        rows = {row["variant"]: row for row in record("tuned", seed)["candidates"]}
        losses = {name: read_table(paths.history(train(name, seed)))["validation_loss"].to_pylist() for name in rows}
        assert {name: row["score"] for name, row in rows.items()} == {name: min(of) for name, of in losses.items()}


def test_published_columns_of_a_chosen_models_history_are_measured(folder):
    """At the epoch that its training kept, which the copy records, and at a stated one."""
    numbers = {"epoch": 2, "validation_loss": 1.0, "validation_loss@1": 1.0, "validation_accuracy@2": 50}
    edit(folder, lambda settings: settings.update(published={"reference": "A paper", "numbers": {"tuned": numbers}}))
    make(folder, "published")
    rows = {row["quantity"]: row for row in read_table(paths.published("tiny")).to_pylist()}
    histories = [read_table(paths.history(train("fast", seed))).to_pylist() for seed in (0, 1)]
    kept = [int(read_metadata(paths.history(train("fast", seed)))["gauntlet.kept_epoch"]) for seed in (0, 1)]
    losses = [[epoch["validation_loss"] for epoch in history] for history in histories]
    expected = {
        "epoch": sum(kept) / 2,
        "validation_loss": sum(of[number - 1] for of, number in zip(losses, kept, strict=True)) / 2,
        "validation_loss@1": sum(of[0] for of in losses) / 2,
        "validation_accuracy@2": 100 * sum(history[1]["validation_accuracy"] for history in histories) / 2,
    }
    assert {name: row["measured"] for name, row in rows.items()} == pytest.approx(expected)
    assert {(row["seeds"], row["missing"]) for row in rows.values()} == {(2, 0)}


def test_over_all_seeds_the_best_mean_decides_every_seed(folder):
    """Each seed has the same candidate, also where another one is better with this seed."""
    scores = {row["variant"]: row["score"] for row in record("accurate")["candidates"]}
    for name, score in scores.items():
        accuracies = [
            next(row for row in record("accurate", seed)["candidates"] if row["variant"] == name)["validation_accuracy"]
            for seed in (0, 1)
        ]
        assert score == pytest.approx(sum(accuracies) / 2)
    assert [record("accurate", seed)["chosen"] for seed in (0, 1)] == [max(scores, key=scores.__getitem__)] * 2


def test_candidates_are_trained_and_nothing_else(folder):
    """They have no row in any table and no line in a figure; the chosen variants have."""
    graph = staleness_in(folder).graph
    cells = [cell for cell in graph.cells() if cell.variant in ("slow", "fast", "plain")]
    assert {cell.stage.name for cell in cells} == {"train"}
    assert len(cells) == 6
    names = set(read_columns(paths.evaluations("tiny"), ["variant"])["variant"].to_pylist())
    assert names == {"tuned", "accurate"}
    assert find_inputs(paths.evaluations("tiny")).variants == ("tuned", "accurate")
    histories = find_inputs(paths.evaluations("tiny")).histories
    assert {(item.variant, item.loss) for item in histories} == {(name, "cross_entropy") for name in names}
    assert "training_curves" in figures(graph.scope(train("tuned")))


def test_the_table_of_choices_has_every_candidate_of_every_model(folder):
    """Names, figures and the chosen one, in the order of the configuration."""
    rows = read_table(paths.choices("tiny")).to_pylist()
    assert [(row["variant"], row["seed"], row["candidate"]) for row in rows] == [
        (variant, seed, candidate)
        for variant, candidates in (("tuned", ("slow", "fast")), ("accurate", ("plain", "fast")))
        for seed in (0, 1)
        for candidate in candidates
    ]
    assert all(row["chosen"] == (record(row["variant"], row["seed"])["chosen"] == row["candidate"]) for row in rows)


def test_test_images_have_no_part_in_a_choice(folder):
    """Trained and chosen again with a test split that cannot be read, the models and records are the same."""
    cells = [train(name, seed) for name in ("slow", "fast", "plain", "tuned", "accurate") for seed in (0, 1)]
    before = [cell.outputs[1].read_bytes() for cell in cells]
    [test] = Path("data").glob("*/test.safetensors")
    test.write_bytes(b"poison")
    for cell in cells:
        cell.stage.run(staleness_in(folder).job(cell))
    assert [cell.outputs[1].read_bytes() for cell in cells] == before


def test_one_more_candidate_redoes_the_choice_and_nothing_below_it(folder):
    """The new training and the choice; the model is the same, and so are the attacks on it. The table is new."""
    assert stale(folder) == []

    def add(settings):
        settings["variants"]["none"] = {"model": NAME, "training": {"optimizer": {"name": "adam", "lr": 1e-6}}}
        settings["variants"]["tuned"]["chosen_from"].append("none")

    edit(folder, add)
    choices = [f"train tiny variant=tuned seed={seed}" for seed in (0, 1)]
    made = make(folder, "train")
    assert [str(cell) for cell in made] == [*(f"train tiny variant=none seed={seed}" for seed in (0, 1)), *choices]
    assert [row["variant"] for row in record("tuned")["candidates"]] == ["slow", "fast", "none"]
    assert stale(folder) == ["aggregate tiny"]
    make(folder, "aggregate")
    assert pc.sum(pc.equal(read_table(paths.choices("tiny"))["candidate"], "none")).as_py() == 2


def test_another_winner_redoes_what_depends_on_the_model(folder):
    """The order of the list decides between equals only: a choice is made again, with the same model."""
    edit(folder, lambda settings: settings["variants"]["tuned"].update(chosen_from=["fast", "slow"]))
    assert len(make(folder, "train")) == 2
    assert not [cell for cell in stale(folder) if cell.startswith("evaluate")]
    edit(folder, lambda settings: settings["variants"]["tuned"].update(chosen_from=["slow"]))
    make(folder, "train")
    attacks = [f"evaluate tiny variant=tuned seed={seed} attack=fgsm" for seed in (0, 1)]
    assert stale(folder) == [*attacks, "aggregate tiny"]


def test_the_code_of_the_chosen_network_decides_the_cells_below(folder):
    """That of another candidate does not, once the choice is made."""
    staleness = staleness_in(folder)
    attacked = make_cell("evaluate", "tiny", "accurate", 0, "fgsm")
    assert record("accurate")["chosen"] == "fast"
    assert OTHER.partition(":")[0] not in staleness.recipe(attacked).modules
    assert NAME.partition(":")[0] in staleness.recipe(attacked).modules
    paths.model_manifest(train("accurate")).unlink()
    assert OTHER.partition(":")[0] in staleness_in(folder).outline(attacked).modules
    assert "gauntlet.learning.training.loop" not in staleness.recipe(train("tuned")).modules


def test_a_missing_candidate_fails_the_choice_by_name(folder):
    """The choice is never made among the rest."""
    for path in train("slow").outputs:
        path.unlink()
    paths.model_weights(train("tuned")).unlink()
    with pytest.raises(GauntletError, match=r"tuned seed=0 needs .*train tiny variant=slow seed=0"):
        staleness_in(folder).job(train("tuned"))


def write_history(cell, losses):
    """Replace the history of a model by one with these validation losses."""
    table = read_table(paths.history(cell)).slice(0, 1).to_pylist()[0]
    rows = [
        table | {"epoch": number, "validation_loss": loss, "selection_loss": loss}
        for number, loss in enumerate(losses, start=1)
    ]
    schema = history_table([]).schema
    metadata = read_metadata(paths.history(cell)) | {"gauntlet.kept_epoch": str(1 + losses.index(min(losses)))}
    write_table(
        paths.history(cell), pa.Table.from_pylist(rows, schema), metadata, volatile=("steps_per_second", "seconds")
    )


def test_the_first_of_equals_is_chosen_and_a_loss_that_is_not_finite_never_is(folder, caplog):
    """The record says so; without a finite figure there is no choice."""
    for name in ("slow", "fast"):
        write_history(train(name), [0.5, 0.25, 0.75])
    with caplog.at_level(logging.INFO):
        train("tuned").stage.run(staleness_in(folder).job(train("tuned")))
    assert record("tuned")["chosen"] == "slow"
    assert record("tuned")["equals"] == ["fast"]
    assert [row["epoch"] for row in record("tuned")["candidates"]] == [2, 2]
    assert "chose slow, validation loss 0.25 of 2 candidates, the first of 2 equal ones" in caplog.text
    write_history(train("slow"), [float("nan")])
    train("tuned").stage.run(staleness_in(folder).job(train("tuned")))
    assert record("tuned")["chosen"] == "fast"
    assert record("tuned")["candidates"][0]["score"] is None
    write_history(train("fast"), [float("inf")])
    with pytest.raises(GauntletError, match="no candidate has a finite validation loss: slow, fast"):
        train("tuned").stage.run(staleness_in(folder).job(train("tuned")))


def test_a_choice_asks_for_no_gpu_and_costs_what_choices_cost(folder):
    """Its job is its own; the trainings next to it say nothing of its time."""
    staleness = staleness_in(folder)
    graph, partitions = staleness.graph, [Partition("gpus", 1, is_default=True, has_gpus=True)]
    resources = JobResources(
        graph.config.execution.model_copy(update={"device": "auto"}), partitions, computes=graph.computes
    )
    assert resources.of(train("fast"), 1).gpu == 1
    assert resources.of(train("tuned"), 1).gpu == 0
    assert resources.group(train("tuned")) is None
    assert resources.of(train("tuned"), 1).runtime < resources.of(train("fast"), 1).runtime
    for seed in (0, 1):
        for name in ("tuned", "accurate"):
            paths.model_weights(train(name, seed)).unlink()
    assert Costs(staleness_in(folder)).of(train("tuned")) is None
    assert Costs(staleness_in(folder)).of(train("slow")) is not None


def test_adopted_candidates_are_compared_by_the_accuracy_of_their_check(folder):
    """With all digits, together with trained ones; their history has no epochs."""
    for seed in (0, 1):
        torch.save(load_model(paths.model_folder(train("plain", seed))).body.state_dict(), f"{seed}.pt")

    def adopt(settings):
        settings["variants"]["adopted"] = {"model": OTHER, "weights": ["0.pt", "1.pt"]}
        settings["variants"]["accurate"] = {"chosen_from": ["plain", "adopted"], "by": "validation_accuracy"}

    edit(folder, adopt)
    make(folder, "train", "evaluate", "aggregate")
    for seed in (0, 1):
        plain, adopted = record("accurate", seed)["candidates"]
        assert plain["score"] == adopted["score"] == adopted["validation_accuracy"]
        assert (adopted["epoch"], record("accurate", seed)["equals"]) == (None, ["adopted"])
    edit(folder, lambda settings: (adopt(settings), settings["variants"]["accurate"].update(chosen_from=["adopted"])))
    make(folder, "train")
    assert len(read_table(paths.history(train("accurate")))) == 0
    assert not [cell for cell in stale(folder) if "accurate" in cell], "the weights are the same"


def test_where_missing_cells_are_allowed_a_choice_that_was_not_made_is_left_out(folder):
    """With what depends on it; the others are in the tables."""
    edit(folder, lambda settings: settings.update(allow_missing=True))
    for path in (*train("slow").outputs, *train("tuned").outputs):
        path.unlink()
    job = staleness_in(folder).job(make_cell("aggregate", "tiny"))
    left_out = {str(cell).partition("variant=")[2] for cell in job.left_out}
    assert left_out == {"slow seed=0", "tuned seed=0", "tuned seed=0 attack=fgsm"}
    job.cell.stage.run(job)
    models = {(row["variant"], row["seed"]) for row in read_table(paths.choices("tiny")).to_pylist()}
    assert models == {("tuned", 1), ("accurate", 0), ("accurate", 1)}
