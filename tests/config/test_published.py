"""The key `published`: quantities and budgets that are checked, and quick forms without published numbers."""

from __future__ import annotations

import copy

import pytest

from gauntlet.config import load
from gauntlet.config.published import Quantity, published_quantities
from gauntlet.core.errors import InputError
from tests.support.yaml_text import dump_yaml, parse_yaml

TEXT = """
dataset: sklearn_digits
variants:
  softmax: {model: cnn, training: {validation_adversary: {name: fgsm, norm: linf, epsilon: 0.1}}}
  lipschitz: {model: lipschitz_cnn, loss: hkr}
attacks:
  pgd: {name: pgd, norm: linf, epsilons: [0.1, 0.2]}
  fgsm: {name: fgsm, norm: linf, epsilons: [0.1]}
  fab: {name: fab, norm: l2}
  rubbish: {name: rubbish, norm: linf, epsilons: [1.0]}
certificates: {certified: {name: lipschitz}}
quick: {training: {epochs: 1}}
"""


def load_published(folder, numbers, **keys):
    """Load an experiment with published numbers."""
    content = {**copy.deepcopy(parse_yaml(TEXT)), "published": {"reference": "A paper", "numbers": numbers}, **keys}
    (folder / "config.yaml").write_text(dump_yaml({"experiments": {"digits": content}}))
    return load([folder / "config.yaml"]).experiments


def test_each_quantity_names_what_is_measured(tmp_path):
    """An attack's only budget, or the one written; a number alone is the value; budgets are the attack's own."""
    numbers = {
        "softmax": {
            "clean": 71.88,
            "fgsm": 23,
            "pgd@0.10001": 4,
            "pgd": 5,
            "fab@1.5": 6,
            "rubbish": 9,
            "robust_validation_accuracy": 7,
            "robust_validation_accuracy@16": 8,
        },
        "lipschitz": {
            "kr@30": 1.5,
            "kr": {"value": 1.7586, "note": "epoch 100", "std": 0.1, "seeds": 3},
            "certified@0.25": 8,
        },
    }
    experiments = load_published(tmp_path, numbers)
    found = published_quantities(experiments["digits"])
    assert {key: quantity for key, (quantity, _) in found.items()} == {
        ("softmax", "clean"): Quantity("clean", "clean"),
        ("softmax", "fgsm"): Quantity("attack", "fgsm", 0.1),
        ("softmax", "pgd@0.10001"): Quantity("attack", "pgd", 0.1),
        ("softmax", "pgd"): Quantity("attack", "pgd"),
        ("softmax", "fab@1.5"): Quantity("attack", "fab", 1.5),
        ("softmax", "rubbish"): Quantity("low_confidence", "rubbish"),
        ("softmax", "robust_validation_accuracy"): Quantity("history", "robust_validation_accuracy"),
        ("softmax", "robust_validation_accuracy@16"): Quantity("history", "robust_validation_accuracy", epoch=16),
        ("lipschitz", "kr@30"): Quantity("history", "kr", epoch=30),
        ("lipschitz", "kr"): Quantity("history", "kr"),
        ("lipschitz", "certified@0.25"): Quantity("certificate", "certified", 0.25),
    }
    kr = found["lipschitz", "kr"][1]
    assert (kr.value, kr.note, kr.std, kr.seeds) == (1.7586, "epoch 100", 0.1, 3)
    assert found["softmax", "clean"][1].value == 71.88
    assert experiments["digits_quick"].published is None


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"softmaxx": {"clean": 3}}, "numbers.softmaxx: no variant 'softmaxx'; did you mean 'softmax'?"),
        ({"softmax": {"clean": 103}}, "softmax.clean: expected a share in percent, 0 to 100, got 103"),
        ({"softmax": {"pgd@0.3": 4}}, "softmax.pgd@0.3: pgd is not run at 0.3; its budgets are 0.1, 0.2"),
        ({"softmax": {"rubbish@1": 4}}, "softmax.rubbish@1: rubbish has no budget; write rubbish"),
        ({"softmax": {"fab@-1": 4}}, "softmax.fab@-1: '-1' is no finite number from 0 on; write fab@BUDGET"),
        ({"softmax": {"fab@nan": 4}}, "softmax.fab@nan: 'nan' is no finite number from 0 on; write fab@BUDGET"),
        ({"lipschitz": {"certified@inf": 4}}, "certified@inf: 'inf' is no finite number from 0 on"),
        ({"softmax": {"fab": 4}}, "fab: l2 has no headline budget, and no attack with budgets; write fab@BUDGET"),
        (
            {"lipschitz": {"certified": 4}},
            "certified: l2 has no headline budget, and no attack with budgets; write certified@RADIUS",
        ),
        ({"softmax": {"pgdd": 4}}, "softmax.pgdd: no quantity 'pgdd'; did you mean 'pgd'?"),
        ({"softmax": {"pgd@high": 4}}, "'high' is no number; write pgd@BUDGET"),
        ({"softmax": {"clean@0.1": 4}}, "clean has no budget; write clean"),
        ({"lipschitz": {"kr@0": 4}}, "lipschitz.kr@0: '0' is no epoch, which are counted from 1; write kr@EPOCH"),
        ({"lipschitz": {"kr@last": 4}}, "lipschitz.kr@last: 'last' is no epoch, which are counted from 1"),
        ({"lipschitz": {"kr@": 4}}, "lipschitz.kr@: '' is no epoch, which are counted from 1"),
        ({"lipschitz": {"kr@1.5": 4}}, "lipschitz.kr@1.5: '1.5' is no epoch, which are counted from 1"),
        ({"lipschitz": {"kr@05": 4}}, "lipschitz.kr@05: '05' is no epoch, which are counted from 1"),
        ({"lipschitz": {"kr@31": 4}}, "lipschitz.kr@31: lipschitz is trained for 30 epochs; choose one of them"),
        (
            {"softmax": {"epoch@5": 4}},
            "softmax.epoch@5: epoch is the kept one, and is stated at no other; write epoch",
        ),
        ({"softmax": {"validation_accuracy@5": 103}}, "expected a share in percent, 0 to 100, got 103"),
        ({"softmax": {"kr@5": 4}}, "softmax.kr@5: softmax is trained with cross_entropy, which has no KR term"),
        ({"softmax": {"kr": 4}}, "softmax.kr: softmax is trained with cross_entropy, which has no KR term"),
        ({"softmax": {"certified": 4}}, "softmax.certified: softmax has no certificate certified"),
        ({"lipschitz": {"robust_validation_accuracy": 4}}, "lipschitz has no adversary during validation"),
        ({"lipschitz": {"clean": {"value": 4, "sd": 1}}}, "clean.sd: unknown key; did you mean 'std'?"),
        ({"lipschitz": {"clean": "high"}}, "lipschitz.clean.value: expected a number, got 'high'"),
    ],
)
def test_a_mistake_is_refused_at_its_key(tmp_path, numbers, message):
    """Unknown variants, quantities and budgets, and what is never measured on a variant."""
    with pytest.raises(InputError) as error:
        load_published(tmp_path, numbers)
    [line] = str(error.value).splitlines()
    assert message in line
    assert "config.yaml:" in line


def test_a_stated_epoch_is_one_of_the_training_of_every_candidate(tmp_path):
    """A chosen variant may be any of them; the shortest decides."""
    variants = {
        "short": {"model": "cnn", "training": {"epochs": 4}},
        "long": {"model": "cnn", "training": {"epochs": 9}},
        "tuned": {"chosen_from": ["long", "short"], "by": "validation_loss"},
    }
    keys = {"variants": variants, "certificates": {}}
    found = load_published(tmp_path, {"tuned": {"validation_loss@4": 1}}, **keys)["digits"]
    assert published_quantities(found)["tuned", "validation_loss@4"][0].epoch == 4
    with pytest.raises(InputError, match="validation_loss@5: short is trained for 4 epochs; choose one of them"):
        load_published(tmp_path, {"tuned": {"validation_loss@5": 1}}, **keys)


def test_published_numbers_of_a_quick_form_are_refused(tmp_path):
    """They are numbers of the full form."""
    with pytest.raises(InputError, match=r"quick\.published: published numbers do not apply to a quick form"):
        load_published(tmp_path, {"softmax": {"clean": 3}}, quick={"published": None})


def test_several_headline_budgets_leave_an_attack_ambiguous(tmp_path):
    """Then the budget is written; and a certificate's radius, rather than that the finished run cannot be compared."""
    with pytest.raises(InputError, match="linf has several headline budgets; write pgd@BUDGET"):
        load_published(tmp_path, {"softmax": {"pgd": 3}}, headline={"linf": [0.1, 0.2]})
    with pytest.raises(InputError, match="l2 has several headline budgets; write certified@RADIUS"):
        load_published(tmp_path, {"lipschitz": {"certified": 3}}, headline={"l2": [0.5, 1.0]})


def test_the_headline_says_where_a_number_without_a_budget_is_measured(tmp_path):
    """Budgets of other attacks in the norm have a default; an attack that is not run at the headline has none."""
    at = {"softmax": {"fab": 3}, "lipschitz": {"certified": 3}}
    found = published_quantities(load_published(tmp_path, at, headline={"l2": [1.0]})["digits"])
    assert [quantity.budget for quantity, _ in found.values()] == [None, None]
    attacks = {**parse_yaml(TEXT)["attacks"], "pgd_l2": {"name": "pgd", "norm": "l2", "epsilons": [0.5, 1.0]}}
    assert len(published_quantities(load_published(tmp_path, at, attacks=attacks)["digits"])) == 2
    attacks["late"] = {"name": "pgd", "norm": "linf", "epsilons": [0.2, 0.3]}
    with pytest.raises(InputError, match=r"late is not run at the headline budget, 0\.1; write late@BUDGET"):
        load_published(tmp_path, {"softmax": {"late": 3}}, attacks=attacks, headline={"linf": [0.1]})
