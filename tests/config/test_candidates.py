"""Random search: what `candidates` of a variant becomes, and that it can be extended without changing what is there."""

from __future__ import annotations

import math

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.core.errors import InputErrors
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.staleness import Staleness
from tests.support.yaml_text import dump_yaml

SPACE = {
    "lr": {"log": [1e-4, 1e-1]},
    "decay": {"uniform": [0, 0.5]},
    "batch": {"integers": [2, 5]},
    "activation": {"choice": ["relu", {"name": "relog", "beta": 2}]},
}
TUNED = {
    "model": {"name": "mnist_cnn", "activation": "{activation}"},
    "training": {"optimizer": {"name": "sgd", "lr": "{lr}", "weight_decay": "{decay}"}, "batch_size": "{batch}"},
    "by": "validation_accuracy",
    "over": "all_seeds",
    "title": "Tuned",
    "candidates": {"sample": 6, "seed": 0, "space": SPACE},
}


def write(folder, variants, **changes):
    """Write a configuration of some variants; return its file."""
    file = folder / "config.yaml"
    settings = {"dataset": {"source": "torchvision", "name": "MNIST", "root": "."}, "seeds": 1, "variants": variants}
    file.write_text(dump_yaml({"experiments": {"e": {**settings, **changes}}}))
    return file


def tuned(folder, name="tuned", **changes):
    """Load an experiment of one variant with `candidates`, whose keys change."""
    candidates = {**TUNED["candidates"], **changes}
    return load([write(folder, {name: {**TUNED, "candidates": candidates}})]).experiments["e"]


def draws(settings):
    """Return the learning rate, decay, batch size and activation of each candidate, by name."""
    return {
        name: (
            variant.training.optimizer.options["lr"],
            variant.training.optimizer.options["weight_decay"],
            variant.training.batch_size,
            variant.model.options["activation"]["name"],
        )
        for name, variant in settings.networks.items()
    }


def test_each_draw_becomes_a_candidate_of_the_variant(tmp_path):
    """Values have their types, inside their ranges; the choice has the keys that are its own."""
    settings = tuned(tmp_path, sample=60)
    choice = settings.choices["tuned"]
    assert choice.chosen_from == tuple(settings.networks)
    assert (choice.by, choice.over, choice.title) == ("validation_accuracy", "all_seeds", "Tuned")
    assert settings.measured == ("tuned",)
    rates, decays, batches, activations = zip(*draws(settings).values(), strict=True)
    assert all(1e-4 <= rate <= 1e-1 and float(f"{rate:.4g}") == rate for rate in rates)
    assert sum(rate < math.sqrt(1e-5) for rate in rates) == pytest.approx(30, abs=12), "uniform in the logarithm"
    assert all(0 <= decay <= 0.5 for decay in decays)
    assert sum(decay < 0.25 for decay in decays) == pytest.approx(30, abs=12)
    assert set(batches) == {2, 3, 4, 5}
    assert set(activations) == {"relu", "relog"}
    assert set(settings.drawn) == set(settings.networks)


def test_a_larger_sample_keeps_the_recipes_of_the_smaller_one(tmp_path):
    """Names and all that decides the trainings; new candidates have new names."""
    recipes = []
    for sample in (6, 12):
        tuned(tmp_path, sample=sample)
        staleness = Staleness(Graph(load([tmp_path / "config.yaml"])))
        cells = [cell for cell in staleness.graph.cells() if cell.stage.name == "train" and cell.variant != "tuned"]
        recipes.append({cell.variant: staleness.outline(cell).digest for cell in cells})
    smaller, larger = recipes
    assert list(smaller) == [f"tuned_{number}" for number in range(1, 7)]
    assert len(larger) == 12
    assert smaller.items() <= larger.items()


def test_parameters_are_drawn_independently_of_each_other_and_of_the_variant(tmp_path):
    """One parameter less, another order, another name of the variant: the draws are the same. Another seed: others."""
    before = draws(tuned(tmp_path))
    reordered = dict(reversed(SPACE.items()))
    assert draws(tuned(tmp_path, space=reordered)) == before
    assert list(draws(tuned(tmp_path, "other")).values()) == list(before.values())
    fewer = {**TUNED, "training": {"optimizer": {"name": "sgd", "lr": "{lr}"}}, "model": "mnist_cnn"}
    fewer["candidates"] = {"sample": 6, "space": {"lr": SPACE["lr"]}}
    settings = load([write(tmp_path, {"tuned": fewer})]).experiments["e"]
    rates = [variant.training.optimizer.options["lr"] for variant in settings.networks.values()]
    assert rates == [rate for rate, *_ in before.values()]
    assert not set(rates) & {rate for rate, *_ in draws(tuned(tmp_path, seed=1)).values()}


def test_draws_are_the_same_in_every_version(tmp_path):
    """These are written down: a change would make the models of all searches stale."""
    assert draws(tuned(tmp_path, sample=2)) == {
        "tuned_1": (0.003637, 0.1702, 4, "relog"),
        "tuned_2": (0.002319, 0.2504, 3, "relog"),
    }


def test_no_setting_is_drawn_twice(tmp_path):
    """A repeated draw is left out with its number; a space with fewer settings than draws is refused."""
    variant = {"model": "cnn", "training": {"batch_size": "{b}", "epochs": "{e}"}}
    space = {"b": {"integers": [1, 3]}, "e": {"choice": [1, 2]}}
    file = write(tmp_path, {"tuned": {**variant, "candidates": {"sample": 6, "space": space}}})
    settings = load([file]).experiments["e"]
    assert len({(draw["b"], draw["e"]) for draw in settings.drawn.values()}) == 6
    numbers = [int(name.removeprefix("tuned_")) for name in settings.drawn]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 6
    write(tmp_path, {"tuned": {**variant, "candidates": {"sample": 7, "space": space}}})
    with pytest.raises(InputErrors, match=r"candidates\.sample: the space has 6 settings, fewer than 7"):
        load([file])


def test_close_ends_have_few_settings(tmp_path):
    """Draws have four significant digits, so that the search for further ones would never end."""
    variant = {"model": "cnn", "training": {"optimizer": {"name": "adam", "lr": "{lr}"}}}
    space = {"lr": {"uniform": [0.1, 0.1002]}}
    file = write(tmp_path, {"tuned": {**variant, "candidates": {"sample": 3, "space": space}}})
    assert {draw["lr"] for draw in load([file]).experiments["e"].drawn.values()} == {0.1, 0.1001, 0.1002}
    write(tmp_path, {"tuned": {**variant, "candidates": {"sample": 4, "space": space}}})
    with pytest.raises(InputErrors, match=r"candidates\.sample: the space has 3 settings, fewer than 4"):
        load([file])


def test_every_row_of_a_grid_has_its_own_candidates(tmp_path):
    """Axes are expanded first; a list of names has the labels of the row."""
    components = [{"label": "oval", "value": {"name": "elliptical", "increment": 0.01}}, "linear"]
    searched = {
        "axes": {"unit": components},
        "model": {"name": "mnist_cnn", "unit": "{unit}"},
        "training": {"optimizer": {"name": "adam", "lr": "{lr}"}},
        "candidates": {"sample": 2, "space": {"lr": SPACE["lr"]}},
    }
    listed = {"axes": {"unit": components}, "chosen_from": ["{unit}_1", "{unit}_2"]}
    settings = load([write(tmp_path, {"{unit}": searched, "listed_{unit}": listed})]).experiments["e"]
    assert {name: choice.chosen_from for name, choice in settings.choices.items()} == {
        **{unit: (f"{unit}_1", f"{unit}_2") for unit in ("oval", "linear")},
        **{f"listed_{unit}": (f"{unit}_1", f"{unit}_2") for unit in ("oval", "linear")},
    }
    assert settings.networks["oval_1"].model.options["unit"]["name"] == "elliptical"
    rates = {name: variant.training.optimizer.options["lr"] for name, variant in settings.networks.items()}
    assert rates["oval_1"] == rates["linear_1"] != rates["oval_2"]


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"candidates": 3}, "candidates", "expected a mapping with `sample` and `space`, got 3"),
        ({"candidates": {"space": SPACE}}, "candidates.sample", "this key is required"),
        (
            {"candidates": {"sample": 0, "space": SPACE}},
            "candidates.sample",
            "expected a whole number, 1 or more",
        ),
        ({"candidates": {"sample": 2, "sead": 1, "space": SPACE}}, "candidates.sead", "did you mean 'seed'?"),
        ({"candidates": {"sample": 2, "space": {}}}, "candidates.space", "expected a mapping of parameters"),
        ({"chosen_from": ["a"]}, "chosen_from", "`candidates` draws the candidates; leave one of the two keys out"),
        ({"training": {"batch_size": "{batsh}"}}, "training.batch_size", "did you mean 'batch'?"),
        (
            {"model": "mnist_cnn"},
            "candidates.space.activation",
            "not used: no value is '{activation}'",
        ),
        ({"title": 3, "by": "accuracy"}, "by", "'validation_accuracy'"),
    ],
)
def test_a_mistake_is_named_at_its_key(tmp_path, changes, place, message):
    """File, line and key path are those of the file."""
    file = write(tmp_path, {"tuned": {**TUNED, **changes}})
    with pytest.raises(InputErrors) as error:
        load([file])
    lines = str(error.value).splitlines()
    assert any(f": experiments.e.variants.tuned.{place}: " in line and message in line for line in lines), lines


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        ({"log": [0, 1]}, "log: expected low above 0, which has a logarithm, got 0"),
        ({"log": [1, 1]}, "log: expected low below high, got 1 and 1"),
        ({"uniform": [1]}, "uniform: expected two numbers, [low, high], got [1]"),
        ({"integers": [1, 2.5]}, "integers: expected two whole numbers, [low, high], got [1, 2.5]"),
        ({"choice": []}, "choice: expected a list of values, got an empty list"),
        ({"choice": ["{lr}"]}, "choice.0: a value of a distribution has no places"),
        ({"normal": [0, 1]}, "normal: unknown distribution"),
        ([1, 2], "lr: expected one distribution (log, uniform, integers, choice)"),
    ],
)
def test_a_distribution_that_cannot_be_drawn_from_is_refused(tmp_path, distribution, message):
    """At its key, in one line."""
    variant = {
        "model": "cnn",
        "training": {"epochs": "{lr}"},
        "candidates": {"sample": 2, "space": {"lr": distribution}},
    }
    with pytest.raises(InputErrors) as error:
        load([write(tmp_path, {"tuned": variant})])
    [line] = str(error.value).splitlines()
    assert message in line


def test_the_schema_refuses_a_drawn_value_at_the_place_that_it_fills(tmp_path):
    """With the candidates that have it; nothing else of them is reported."""
    space = {**SPACE, "batch": {"integers": [-9, -1]}}
    with pytest.raises(InputErrors) as error:
        tuned(tmp_path, sample=8, space=space)
    lines = str(error.value).splitlines()
    assert all(
        ": experiments.e.variants.tuned.training.batch_size: expected a number above 0" in line for line in lines
    )
    assert "(variant tuned_" in lines[0] or "(variants tuned_" in lines[0]


def test_a_candidate_with_the_name_of_another_variant_is_refused(tmp_path):
    """One of the two is renamed by the user, since names are folders."""
    file = write(tmp_path, {"tuned": TUNED, "tuned_2": {"model": "mnist_cnn"}})
    with pytest.raises(InputErrors, match="a candidate would be called 'tuned_2', as another variant is; rename one"):
        load([file])


def test_a_quick_form_draws_fewer_of_the_same(tmp_path):
    """Its keys are merged before the candidates are drawn."""
    quick = {"variants": {"tuned": {"candidates": {"sample": 2}}}}
    config = load([write(tmp_path, {"tuned": TUNED}, quick=quick)])
    full, small = draws(config.experiments["e"]), draws(config.experiments["e_quick"])
    assert small == {name: full[name] for name in ("tuned_1", "tuned_2")}


def test_check_lists_the_candidates_and_shows_each(tmp_path):
    """A candidate is shown as it would be written by hand."""
    file = write(tmp_path, {"tuned": TUNED}, dataset={"source": "sklearn_digits"})
    listed = CliRunner().invoke(app, ["check", str(file)]).output
    names = ", ".join(f"tuned_{number}" for number in range(1, 7))
    assert f"  tuned: the best of {names} by validation_accuracy, all_seeds\n" in listed
    shown = CliRunner().invoke(app, ["check", str(file), "--show", "tuned_1"]).output
    assert "optimizer: {name: sgd, lr: 0.003637, weight_decay: 0.1702}" in shown
