"""Variants of the logic-inspired networks: accepted and refused combinations."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gauntlet.config.compatibility import variant_problems
from gauntlet.config.variants import Training, Variant
from gauntlet.registry import ACTIVATIONS, FOLDINGS, UNITS, Spec


def reasons(loss: str = "cross_entropy", **model: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Return why a variant of the MNIST CNN is refused."""
    return list(variant_problems(Variant(model={"name": "mnist_cnn", **model}, loss=loss), Training()))


@pytest.mark.parametrize(
    ("activation", "unit", "folding"), list(itertools.product(ACTIVATIONS.names(), UNITS.names(), FOLDINGS.names()))
)
def test_only_closed_units_with_minima_are_refused(activation: str, unit: str, folding: str) -> None:
    """Every other combination of activation, unit and folding is accepted."""
    found = reasons(activation=activation, unit=unit, folding=folding)
    if unit in ("elliptical", "spherical") and folding == "minmaxout":
        ((place, reason),) = found
        assert place == ("model", "folding")
        assert reason.startswith(f"minmaxout takes minima: each {unit} unit is active inside an ellipsoid")
    else:
        assert found == []


@pytest.mark.parametrize(
    ("head", "loss", "reason"),
    [
        ("sigmoid", "sigmoid_mse", None),
        ("sigmoid", "sigmoid_bce", None),
        ("sigmoid", "cross_entropy", "cross_entropy needs an output of logits, this network gives sigmoid"),
        ("sigmoid", "hinge", "hinge needs an output of codes, this network gives sigmoid"),
        ("softmax", "sigmoid_mse", "sigmoid_mse needs an output of sigmoid, this network gives logits"),
        ("ecc", "sigmoid_bce", "sigmoid_bce needs an output of sigmoid, this network gives codes"),
    ],
)
def test_losses_of_sigmoids_need_sigmoids(head: str, loss: str, reason: str | None) -> None:
    """Sigmoid losses need a sigmoid head, and other losses refuse it."""
    assert reasons(loss, head=head) == ([] if reason is None else [(("loss",), reason)])


def test_options_of_parts_are_checked_and_filled_in() -> None:
    """A part is a name or a mapping, and its defaults are added."""
    model = Variant(model={"name": "vgg", "activation": {"name": "relog", "beta": 2, "start": -0.5}}).model
    assert model.options["activation"] == {
        "name": "relog",
        "beta": 2.0,
        "base": None,
        "shift": 0.0,
        "start": -0.5,
        "increment": 0.001,
        "stop": 1.0,
    }
    assert model.options["folding"] == {"name": "none"}
    with pytest.raises(ValueError, match=r"unknown key; did you mean 'pieces'"):
        Variant(model={"name": "vgg", "folding": {"name": "maxout", "piecess": 2}})
    with pytest.raises(ValueError, match="expected a number above 0"):
        Variant(model={"name": "vgg", "unit": {"name": "elliptical", "stop": -1.0}})


def test_an_option_with_the_name_of_a_part_is_left_alone() -> None:
    """The `activation` of lipschitz_cnn is a plain option."""
    model = Variant(model={"name": "lipschitz_cnn", "activation": "full_sort"}, loss=Spec("hkr")).model
    assert model.options["activation"] == "full_sort"


def test_a_default_component_equals_the_same_component_written_out() -> None:
    """Neither form makes the other stale."""
    assert Training() == Training(optimizer="adam", schedule="constant")
    assert Variant(model="cnn") == Variant(model="cnn", loss="cross_entropy")
    assert Training().optimizer.options["lr"] == 0.001
