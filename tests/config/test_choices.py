"""Chosen variants in a configuration: what they may say, and what their candidates must have in common."""

from __future__ import annotations

import pytest

from gauntlet.config import load
from gauntlet.core.errors import InputErrors
from tests.support.yaml_text import dump_yaml

ADVERSARY = {"name": "pgd", "norm": "linf", "epsilon": 0.1, "steps": 2}
EXPERIMENT = {
    "dataset": {"source": "sklearn_digits"},
    "variants": {
        "low": {"model": "cnn", "training": {"optimizer": {"name": "adam", "lr": 1e-4}}},
        "high": {"model": "cnn", "training": {"optimizer": {"name": "adam", "lr": 1e-2}}},
        "hinge": {"model": {"name": "cnn", "head": "ecc"}, "loss": "hinge"},
        "robust": {"model": "cnn", "training": {"validation_adversary": ADVERSARY}},
        "weak": {"model": "cnn", "training": {"validation_adversary": {**ADVERSARY, "epsilon": 0.05}}},
        "adopted": {"model": "cnn", "weights": ["0.pt", "1.pt", "2.pt"]},
        "single": {"model": "cnn", "weights": "0.pt"},
        "lipschitz": {"model": "lipschitz_cnn"},
        "other": {"model": "cnn"},
    },
    "attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}},
    "certificates": {"bound": {"name": "lipschitz"}},
}


def load_experiment(folder, tuned, **changes):
    """Load the experiment with a chosen variant."""
    variants = {**EXPERIMENT["variants"], "tuned": tuned}
    file = folder / "config.yaml"
    file.write_text(dump_yaml({"experiments": {"e": {**EXPERIMENT, "variants": variants, **changes}}}))
    return load([file]).experiments["e"]


def test_candidates_are_all_variants_that_are_named(tmp_path):
    """All others are measured, in the order of the configuration; the defaults are filled in."""
    settings = load_experiment(tmp_path, {"chosen_from": ["low", "high"]})
    assert settings.measured == ("hinge", "robust", "weak", "adopted", "single", "lipschitz", "other", "tuned")
    assert settings.choices["tuned"].as_dict() == {
        "chosen_from": ["low", "high"],
        "by": "validation_loss",
        "over": "each_seed",
    }
    assert settings.seeds_of("tuned") == (0, 1, 2)
    assert settings.measured_as("low") == ("tuned",)


@pytest.mark.parametrize(
    ("tuned", "key", "message"),
    [
        ({"chosen_from": []}, "chosen_from", "expected 1 item or more, got an empty list"),
        ({"chosen_from": ["low", "hihg"]}, "chosen_from.1", "no variant 'hihg'; did you mean 'high'?"),
        ({"chosen_from": ["low", "high", "low"]}, "chosen_from.2", "the candidate 'low' is given twice"),
        ({"chosen_from": ["low", "tuned"]}, "chosen_from.1", "'tuned' is the variant itself"),
        ({"chosen_from": ["low"], "model": "cnn"}, "model", "its candidates have their own model; leave it out"),
        ({"chosen_from": ["low"], "training": {"epochs": 1}}, "training", "their own training; leave it out"),
        ({"chosen_from": ["low"], "by": "test_accuracy"}, "by", "'robust_validation_accuracy'"),
        ({"chosen_from": ["low"], "bye": "validation_loss"}, "bye", "unknown key; did you mean 'by'?"),
        ({"chosen_from": ["low", "hinge"]}, "by", "losses do not compare, and low and hinge have different ones"),
        (
            {"chosen_from": ["robust", "low"], "by": "robust_validation_accuracy"},
            "by",
            "the candidate 'low' has no `training.validation_adversary`",
        ),
        (
            {"chosen_from": ["robust", "weak"], "by": "robust_validation_accuracy"},
            "by",
            "accuracies under different attacks do not compare, and robust and weak have different",
        ),
        ({"chosen_from": ["low", "adopted"]}, "by", "'adopted' has `weights`, and so only a validation accuracy"),
        (
            {"chosen_from": ["low", "single"], "by": "validation_accuracy"},
            "chosen_from",
            "'single' has models of the seeds 0, 'low' of 0, 1, 2",
        ),
        (
            {"chosen_from": ["low", "lipschitz"], "by": "validation_accuracy"},
            "chosen_from",
            "'lipschitz' can have the certificate 'bound' and 'low' cannot",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_at_its_key(tmp_path, tuned, key, message):
    """File and line are those of the key."""
    with pytest.raises(InputErrors) as error:
        load_experiment(tmp_path, tuned)
    [line] = str(error.value).splitlines()
    assert line.startswith(f"{tmp_path}/config.yaml:")
    assert f": experiments.e.variants.tuned.{key}: " in line
    assert message in line


def test_candidates_of_equal_figures_are_accepted(tmp_path):
    """Adopted models by accuracy, networks of different losses by accuracy, robust ones under one attack."""
    for tuned in (
        {"chosen_from": ["low", "hinge", "adopted"], "by": "validation_accuracy", "over": "all_seeds"},
        {"chosen_from": "robust", "by": "robust_validation_accuracy", "title": "Best"},
    ):
        assert load_experiment(tmp_path, tuned).choices["tuned"].by == tuned["by"]


def test_a_choice_among_choices_is_refused(tmp_path):
    """Also where two choices name each other."""
    variants = {
        **EXPERIMENT["variants"],
        "first": {"chosen_from": ["second", "low"]},
        "tuned": {"chosen_from": ["low"]},
        "second": {"chosen_from": ["first"]},
    }
    with pytest.raises(InputErrors) as error:
        load_experiment(tmp_path, {}, variants=variants)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"experiments.e.variants.{key}.chosen_from.0" for key in ("first", "second")
    ]
    assert "'second' is chosen too, and a choice among choices is not made; name variants that are trained" in lines[0]


def test_without_validation_images_nothing_is_chosen(tmp_path):
    """`test: all` makes every image a test image."""
    variants = {"adopted": EXPERIMENT["variants"]["adopted"]}
    variants["tuned"] = {"chosen_from": ["adopted"], "by": "validation_accuracy"}
    dataset = {"source": "imagefolder", "root": "images", "test": "all"}
    with pytest.raises(InputErrors, match=r"`dataset\.test: all` leaves no validation images to choose by"):
        load_experiment(tmp_path, {}, variants=variants, dataset=dataset, certificates={})


def test_no_attack_transfers_from_a_candidate(tmp_path):
    """`*` leaves candidates out, and naming one is refused: the attacked model may be the same."""
    attacks = {"t": {**EXPERIMENT["attacks"]["fgsm"], "transfer_from": "*"}}
    variants = {name: EXPERIMENT["variants"][name] for name in ("low", "high", "lipschitz", "other")}
    variants["tuned"] = {"chosen_from": ["low", "high"]}
    settings = load_experiment(tmp_path, {}, variants=variants, attacks=attacks)
    assert set(settings.attacks) == {"t_from_lipschitz", "t_from_other", "t_from_tuned"}
    attacks["t"]["transfer_from"] = "low"
    with pytest.raises(InputErrors, match="transfer_from: 'low' is a candidate of 'tuned', which may have its model"):
        load_experiment(tmp_path, {}, variants=variants, attacks=attacks)


def test_an_attack_must_suit_every_candidate(tmp_path):
    """One of them may be the attacked model."""
    attacks = {"t": {"name": "pgd", "norm": "linf", "epsilons": [0.1], "loss": "training"}}
    variants = {name: EXPERIMENT["variants"][name] for name in ("low", "adopted")}
    variants["tuned"] = {"chosen_from": ["low", "adopted"], "by": "validation_accuracy"}
    with pytest.raises(
        InputErrors, match=r"attacks\.t\.loss: a variant with `weights` does not name its training loss"
    ):
        load_experiment(tmp_path, {}, variants=variants, attacks=attacks, certificates={})
