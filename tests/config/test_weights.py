"""The keys `weights` of a variant and `training.initial_weights`: their forms, and what they exclude."""

from __future__ import annotations

import json
import re

import pytest

from gauntlet.config.loading import load
from gauntlet.core.errors import InputError

ADOPTED = {"model": "cnn", "weights": "a.pt"}


def experiment(tmp_path, variants, **keys):
    """Load a configuration of one experiment."""
    settings = {"dataset": {"source": "sklearn_digits"}, "variants": variants, **keys}
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"experiments": {"small": settings}}))
    return load([file]).experiments["small"]


@pytest.mark.parametrize(
    ("written", "files"),
    [
        ("a.pt", [("a.pt", None)]),
        ({"file": "a.pt", "entry": "ema"}, [("a.pt", "ema")]),
        (["a.pt", {"file": "a.pt", "entry": "ema"}], [("a.pt", None), ("a.pt", "ema")]),
    ],
)
def test_a_variant_has_one_seed_per_file(tmp_path, written, files):
    """Trained variants have the experiment's seeds."""
    found = experiment(
        tmp_path, {"adopted": {"model": "cnn", "weights": written}, "trained": {"model": "cnn"}}, seeds=[4]
    )
    assert [(file.file, file.entry) for file in found.variants["adopted"].weights] == files
    assert found.seeds_of("adopted") == tuple(range(len(files)))
    assert found.seeds_of("trained") == (4,)


WRONG = [
    ({"v": {**ADOPTED, "weights": []}}, {}, "variants.v.weights: the list is empty"),
    ({"v": {**ADOPTED, "weights": ["a.pt", "a.pt"]}}, {}, "variants.v.weights.1: a.pt is given twice"),
    (
        {"v": {**ADOPTED, "weights": 3}},
        {},
        "variants.v.weights: expected a path, or a mapping with the key 'file'",
    ),
    ({"v": {**ADOPTED, "weights": ""}}, {}, "variants.v.weights.file: expected 1 characters or more"),
    ({"v": {**ADOPTED, "weights": "~no_such_user/a.pt"}}, {}, "variants.v.weights: there is no home folder for"),
    (
        {"v": {"model": "cnn"}},
        {"training": {"initial_weights": {"file": "~no_such_user/a.pt"}}},
        "training.initial_weights.file: there is no home folder for '~no_such_user/a.pt'; write the whole path",
    ),
    ({"v": {**ADOPTED, "weights": [{"file": "a.pt", "key": "x"}]}}, {}, "variants.v.weights.0.key: "),
    (
        {"v": {**ADOPTED, "training": {"epochs": 3}}},
        {},
        "variants.v.training: has no effect: the variant has `weights`",
    ),
    ({"v": ADOPTED}, {"seeds": [0]}, "small.seeds: has no effect: every variant has `weights`"),
    (
        {"v": ADOPTED, "w": {"model": "cnn"}},
        {"attacks": {"t": {"name": "fgsm", "norm": "linf", "epsilons": [0.1], "transfer_from": ["v"]}}},
        "attacks.t.transfer_from: v has no model of seed 1, which w has",
    ),
    (
        {"v": ADOPTED},
        {"attacks": {"t": {"name": "pgd", "norm": "linf", "epsilons": [0.1], "loss": "training"}}},
        "attacks.t.loss: a variant with `weights` does not name its training loss; set its `loss`",
    ),
    ({"v": {"model": {"name": "cnn", "head": "sigmoid"}, "weights": "a.pt", "loss": "hinge"}}, {}, "variants.v.loss: "),
]


@pytest.mark.parametrize(("variants", "keys", "expected"), WRONG, ids=[expected for *_, expected in WRONG])
def test_what_cannot_work_is_refused_at_its_key(tmp_path, variants, keys, expected):
    """One line, with the place."""
    with pytest.raises(InputError, match=re.escape(expected)):
        experiment(tmp_path, variants, **keys)


def test_an_adopted_network_needs_no_loss_that_fits_its_head(tmp_path):
    """Its training is over, and so is that of the experiment."""
    variants = {"v": {"model": {"name": "cnn", "head": "sigmoid"}, "weights": "a.pt"}}
    found = experiment(
        tmp_path, variants, training={"negatives": "overlay", "adversary": {"name": "trades", "epsilon": 0.1}}
    )
    assert found.variants["v"].known_loss is None
    assert found.training_of("v").negatives is None
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.1], "loss": "training"}
    named = {"v": {**variants["v"], "loss": "sigmoid_bce"}}
    assert experiment(tmp_path, named, attacks={"t": attack}).variants["v"].known_loss.name == "sigmoid_bce"


def test_a_recipe_without_checkpoints_is_that_of_before(tmp_path):
    """Neither key is part of a variant that does not use it."""
    found = experiment(tmp_path, {"v": {"model": "cnn"}})
    assert found.variants["v"].as_dict().keys() == {"model", "loss", "normalize"}
    assert "initial_weights" not in found.training_of("v").as_dict()
