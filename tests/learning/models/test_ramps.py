"""Ramps: their values at given steps, what advances them, and what is stored of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec

OPTIONS = {
    "widths": [4, 6],
    "activation": {"name": "relog", "beta": 2.0, "start": -0.01, "increment": 0.01},
    "unit": {"name": "elliptical", "increment": 0.02},
    "folding": {"name": "maxout", "pieces": 2},
}


def built() -> Network:
    """A network with five ramps: two activations and three layers of units."""
    return build(Spec("mnist_cnn", OPTIONS), image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,))


def steps(network: Network) -> list[int]:
    """What the network's ramps have counted."""
    return [int(module.step) for module in network.modules() if isinstance(module, Ramp)]


@pytest.mark.parametrize(
    ("options", "step", "strength", "effective"),
    [
        ({}, 0, 0.0, 1e-4),
        ({}, 1, 0.001, 0.001),
        ({}, 500, 0.5, 0.5),
        ({}, 1000, 1.0, 1.0),
        ({}, 5000, 1.0, 1.0),
        ({"start": -0.8, "increment": 1e-4, "stop": 2.0}, 0, -0.8, 1e-4),
        ({"start": -0.8, "increment": 1e-4, "stop": 2.0}, 8000, 0.0, 1e-4),
        ({"start": -0.8, "increment": 1e-4, "stop": 2.0}, 18_000, 1.0, 1.0),
        ({"start": -0.8, "increment": 1e-4, "stop": 2.0}, 28_000, 2.0, 2.0),
        ({"start": 1.0}, 0, 1.0, 1.0),
        ({"increment": 0.0}, 1000, 0.0, 1e-4),
    ],
    ids=str,
)
def test_values_at_given_steps(options: dict[str, float], step: int, strength: float, effective: float) -> None:
    """At most `stop`, linear before; what is used is never below 1e-4, so that a delay is nearly nothing."""
    ramp = Ramp(**options)
    ramp.step += step
    assert ramp.strength.item() == pytest.approx(strength, abs=1e-6)
    assert ramp().item() == pytest.approx(effective, rel=1e-5)


def test_rounding_does_not_gather() -> None:
    """A thousand times 0.001 is 1: what is counted are steps, not their sum."""
    ramp = Ramp(stop=2.0)
    for _ in range(1000):
        ramp.advance()
    assert ramp().item() == 1.0


def test_every_step_of_training_advances_all_ramps() -> None:
    """The loop calls `after_step` after each optimiser step; evaluation advances none."""
    data = prepare(Spec("sklearn_digits"))
    settings = Training(epochs=3, batch_size=64, optimizer=Spec("adam", {"lr": 1e-3}))
    run = TrainingRun(
        built(), Spec("cross_entropy"), data.splits["train"], data.splits["validation"], settings=settings, seed=0
    )
    assert steps(run.network) == [0] * 5
    run.run_steps(3)
    assert steps(run.network) == [3] * 5
    run.network.eval()
    run.network(torch.zeros(2, 1, 8, 8))
    assert steps(run.network) == [3] * 5


def test_frozen_ramps_stay_and_go_on_from_there() -> None:
    """Recovery from a collapse freezes ramps by this flag alone."""
    network = built()
    for frozen, expected in ((False, 1), (True, 1), (False, 2)):
        network.ramps_frozen = frozen
        network.after_step()
        assert steps(network) == [expected] * 5


def test_interrupted_training_goes_on_at_its_strength() -> None:
    """A state taken between two steps leads a new run to the same weights and counts, to the bit."""
    data = prepare(Spec("sklearn_digits"))
    splits = data.splits["train"], data.splits["validation"]
    settings = Training(epochs=2, batch_size=200, optimizer=Spec("adam", {"lr": 1e-3}))
    whole, again = (TrainingRun(built(), Spec("cross_entropy"), *splits, settings=settings, seed=0) for _ in range(2))
    whole.run_steps(3)
    again.restore(whole.state())
    for run in (whole, again):
        run.run_steps(2)
    first, second = whole.network.state_dict(), again.network.state_dict()
    assert steps(again.network) == [5] * 5
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_carry_the_strength_that_they_were_trained_at(tmp_path: Path) -> None:
    """Saved and loaded, a network is evaluated at its own strength; whether ramps are frozen is not stored."""
    network = built()
    for _ in range(40):
        network.after_step()
    network.ramps_frozen = True
    save_model(network.eval(), tmp_path)
    loaded = load_model(tmp_path)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert steps(loaded) == [40] * 5
    assert torch.equal(loaded(x), network(x))
    assert not torch.equal(loaded(x), built().eval()(x))
    assert not loaded.ramps_frozen
