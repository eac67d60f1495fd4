"""Transfer attacks, which query the sources only."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support.attack_problems import affine_problem, gaussian_problem

CHEAP: dict[str, dict[str, Any]] = {
    "autoattack": {"steps": 6, "queries": 30},
    "carlini_wagner": {"steps": 60, "binary_search_steps": 4, "initial_const": 1.0, "step_size": 0.1},
    "fab": {"steps": 10},
    "jsma": {"gamma": 1.0},
    "max_confidence": {"steps": 2},
    "salt_and_pepper_noise": {"draws": 50},
    "square": {"queries": 30, "restarts": 2},
}
CASES = [pytest.param(name, norm, id=f"{name}-{norm}") for name in CHEAP for norm in ATTACKS.entry(name).tags["norms"]]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_attacks_fool_the_sources_and_never_query_the_target(
    name: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every result fools the source, and a query of the target would raise."""
    source, target = affine_problem(5, (1, 8, 8)), affine_problem(4, (1, 8, 8))
    monkeypatch.setattr(AttackModel, "confirm", lambda *_: pytest.fail("the target was asked"))
    model = AttackModel(target.network, sources=[source.network])
    model.start_counting(7)
    component = ATTACKS.load(name)
    epsilon = {"linf": 0.3, "l2": 2.0, "l1": 12.0, "l0": 40.0}[norm]
    supplied: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "keys": torch.arange(7)}
    accepted = {key: value for key, value in supplied.items() if key in inspect.signature(component).parameters}
    found: Tensor = component(model, source.images, source.labels, **accepted, **CHEAP[name])
    assert (source.network(found).argmax(1) != source.labels).all()


@pytest.mark.parametrize(("name", "norm"), [("LinfPGD", "linf"), ("DDNAttack", "l2")])
def test_restarts_of_foolbox_never_query_the_target(name: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources decide which restart is kept, as in attacks of our own."""
    source, target = affine_problem(5, (1, 8, 8)), affine_problem(4, (1, 8, 8))
    monkeypatch.setattr(AttackModel, "confirm", lambda *_: pytest.fail("the target was asked"))
    model = AttackModel(target.network, sources=[source.network])
    model.start_counting(7)
    budget: dict[str, Any] = {"epsilon": 0.3} if norm == "linf" else {}
    attack = ATTACKS.load(f"foolbox:{name}")
    found: Tensor = attack(
        model, source.images, source.labels, norm=norm, keys=torch.arange(7), steps=20, restarts=2, **budget
    )
    assert (source.network(found).argmax(1) != source.labels).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adaptive", {}),
        ("pgd", {"targets": 5, "loss": "margin"}),
        ("pgd", {"restarts": 2, "loss": ["margin", "dlr"]}),
        ("apgd", {"targets": 5, "loss": "margin"}),
    ],
)
def test_of_several_runs_the_nearest_to_success_is_kept(name: str, options: dict[str, Any]) -> None:
    """The last run follows a farther class, or the nearest of all: where any run fools the source, the result does."""
    problem, distance = gaussian_problem("linf", samples=24)
    found = problem.run(name, "linf", (1.1 * distance,), options={"steps": 20, **options}, sources=[problem.network])
    assert set(found.rows["status"].to_pylist()) == {"adversarial"}
