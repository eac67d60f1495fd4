"""Ramps: their values at given steps, what advances them, and their stored state."""

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
    """Return a network with five ramps: two activations and three layers of units."""
    return build(Spec("mnist_cnn", OPTIONS), image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,))


def steps(network: Network) -> list[int]:
    """Return the step counts of the network's ramps."""
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
    """The value rises linearly to `stop`; the value in use is at least 1e-4."""
    ramp = Ramp(**options)
    ramp.step += step
    assert ramp.strength.item() == pytest.approx(strength, abs=1e-6)
    assert ramp().item() == pytest.approx(effective, rel=1e-5)


def test_rounding_errors_do_not_accumulate() -> None:
    """A thousand times 0.001 is 1, since steps are counted, not added up."""
    ramp = Ramp(stop=2.0)
    for _ in range(1000):
        ramp.advance()
    assert ramp().item() == 1.0


def test_every_step_of_training_advances_all_ramps() -> None:
    """The loop calls `after_step` after each optimizer step; evaluation advances no ramp."""
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
    """Recovery from a collapse freezes ramps by this flag."""
    network = built()
    for frozen, expected in ((False, 1), (True, 1), (False, 2)):
        network.ramps_frozen = frozen
        network.after_step()
        assert steps(network) == [expected] * 5


def test_a_resumed_training_has_the_same_ramps() -> None:
    """A state taken between two steps leads to the same weights and counts, bit by bit."""
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


def test_the_strength_of_ramps_is_stored_with_the_weights(tmp_path: Path) -> None:
    """A loaded network has its strength; whether ramps are frozen is not stored."""
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
