"""Arithmetic of each pass: IEEE float32 for judging, certifying, probing, training; less in attacks only."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gauntlet.config.variants import Training
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.build import ImportedNetwork
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Head
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.diagnostics.probes import run_probes
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate, evaluator
from tests.support.arithmetic import IEEE, Observed, arithmetic

IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
ATTACK = AttackSettings("a", Spec("pgd", {"steps": 3, "restarts": 1, "step_size": None}), "linf", (0.1,))


@pytest.fixture
def network() -> Observed:
    """A network in evaluation mode without passes yet."""
    return Observed().eval()


def labels(network: Observed) -> torch.Tensor:
    """Return the network's own classes, and forget these passes."""
    with torch.no_grad():
        classes = network(IMAGES).argmax(1)
    network.passes.clear()
    return classes


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_an_evaluation_judges_in_ieee_float32(
    network: Observed, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    """The attack's own passes may use TF32, on a GPU; the caller's settings come back."""
    monkeypatch.setattr(evaluator, "choose_precision", lambda *_, **__: precision)
    before, classes = arithmetic(), labels(network)
    evaluate(network, IMAGES, classes, ATTACK, identity=CellIdentity())
    assert arithmetic() == before
    judged = [settings for gradient, settings in network.passes if not gradient]
    attacked = [settings for gradient, settings in network.passes if gradient]
    assert IEEE in judged
    expected = "tf32" if precision == "tf32" else "ieee"
    assert attacked
    assert all(settings[:3] == [expected] * 3 for settings in attacked)
    assert all(settings[3:6] == ["ieee"] * 3 for settings in [*judged, *attacked])
    if precision == "float32":
        assert all(settings == IEEE for settings in judged)


def test_certificates_and_probes_are_ieee_float32(network: Observed) -> None:
    """Each pass, not the first alone."""
    before, classes = arithmetic(), labels(network)
    spec = Spec("smoothing", {"n0": 4, "n": 12, "alpha": 0.001, "sigma": 0.1})
    certify(network, IMAGES, classes, spec, name="c", norm="l2", identity=CellIdentity())
    run_probes(network, IMAGES, classes, epsilons={"linf": (0.1,)}, samples=4, steps=2)
    assert arithmetic() == before
    assert len(network.passes) > 20
    assert all(settings == IEEE for _, settings in network.passes)


def test_training_is_ieee_float32(network: Observed) -> None:
    """Steps and validation."""
    before = arithmetic()
    split = Split((255 * IMAGES).to(torch.uint8), torch.arange(12) % 4)
    trained = ImportedNetwork(normalization=Normalization((0.0,), (1.0,)), body=network, head=Head())
    fit(trained, Spec("cross_entropy"), split, split, settings=Training(epochs=2, batch_size=6), seed=0)
    assert arithmetic() == before
    assert {training for training, _ in network.passes} == {True, False}
    assert all(settings == IEEE for _, settings in network.passes)
