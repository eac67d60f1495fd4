"""Costs that grow with the number of classes are warned of."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config.many_classes import class_costs
from gauntlet.config.schema import Experiment
from tests.support.yaml_text import dump_yaml

ATTACKS: dict[str, dict[str, Any]] = {
    "saliency": {"name": "jsma", "norm": "l0"},
    "boundaries": {"name": "fab", "norm": "l2", "targets": 0},
    "few": {"name": "fab", "norm": "l2"},
    "many": {"name": "fab", "norm": "l2", "targets": 40},
    "deepfool": {"name": "foolbox:L2DeepFoolAttack", "norm": "l2"},
    "steps": {"name": "pgd", "norm": "linf", "epsilons": [0.1]},
}


def settings(name: str = "CIFAR100") -> dict[str, Any]:
    """Return an experiment on a data set of torchvision."""
    return {
        "dataset": {"source": "torchvision", "name": name, "download": True},
        "seeds": [0],
        "variants": {"small": {"model": "cnn"}},
        "attacks": ATTACKS,
    }


def test_attacks_that_work_on_each_class_are_named_with_what_they_cost() -> None:
    """The default of FAB and of DeepFool is a number of targets that does not grow."""
    warnings = list(class_costs(Experiment.model_validate(settings())))
    assert warnings == [
        "attacks.saliency: jsma works on each of 100 classes: about 11 times the cost with 10",
        "attacks.boundaries: fab with `targets: 0` works on each of 100 classes: about 11 times the cost with 10",
        "attacks.many: one search for each of 40 targets: 40 times the cost of one",
    ]


@pytest.mark.parametrize(("classes", "warned"), [(None, False), (10, False), (1000, True)])
def test_prepared_data_decide_before_the_source(classes: int | None, warned: bool) -> None:
    """A folder of images does not state its classes; few of them are no cost."""
    attacks = {key: ATTACKS[key] for key in ("saliency", "few", "steps")}
    experiment = Experiment.model_validate(settings("CIFAR10") | {"attacks": attacks})
    warnings = list(class_costs(experiment, classes))
    assert (
        warnings == ["attacks.saliency: jsma works on each of 1000 classes: about 111 times the cost with 10"]
    ) is warned
    assert bool(warnings) is warned


def test_check_prints_them(tmp_path, monkeypatch) -> None:
    """Next to the numbers of cells; the exit code is that of a valid configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(dump_yaml({"experiments": {"many": settings()}}))
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert "many: warning: attacks.saliency: jsma works on each of 100 classes" in done.output
