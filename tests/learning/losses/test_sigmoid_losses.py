"""Losses of independent sigmoids: values computed by hand, negatives, and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Spec

SIGMOID = [name for name in LOSSES.names() if "sigmoid" in LOSSES.entry(name).tags.get("outputs", ())]
LOG3 = math.log(3)  # its sigmoid is 0.75


def network() -> Network:
    """Return a small network with a sigmoid per class."""
    spec = Spec("mnist_cnn", {"widths": [2, 3], "head": {"name": "sigmoid"}})
    return build(spec, image_shape=(1, 8, 8), num_classes=3, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(
    ("loss", "label", "expected"),
    [
        (Spec("sigmoid_mse"), 0, (0.25**2 + 0.75**2 + 0.5**2) / 3),
        (Spec("sigmoid_mse"), -1, (0.75**2 + 0.75**2 + 0.5**2) / 3),
        (Spec("sigmoid_mse", {"positive_weight": 9.0}), 0, (9 * 0.25**2 + 0.75**2 + 0.5**2) / 3),
        (Spec("sigmoid_mse", {"positive_weight": 9.0}), -1, (0.75**2 + 0.75**2 + 0.5**2) / 3),
        (Spec("sigmoid_bce"), 0, -(math.log(0.75) + math.log(0.25) + math.log(0.5)) / 3),
        (Spec("sigmoid_bce"), -1, -(math.log(0.25) + math.log(0.25) + math.log(0.5)) / 3),
    ],
    ids=str,
)
def test_values_by_hand(loss: Spec, label: int, expected: float) -> None:
    """Sigmoids are 0.75, 0.75 and 0.5; the label -1 has no class."""
    outputs = torch.tensor([[LOG3, LOG3, 0.0]])
    assert build_loss(loss)(network(), outputs, torch.tensor([label])).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("name", SIGMOID)
def test_gradients_in_float64(name: str) -> None:
    """Gradients equal finite differences, also for negatives, and the value has the outputs' dtype."""
    outputs = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, model, loss = torch.tensor([0, 1, 2, -1, -1, 0]), network(), build_loss(Spec(name))
    assert loss(model, outputs, labels).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda outputs: loss(model, outputs, labels), outputs)


@pytest.mark.parametrize("name", SIGMOID)
def test_saturated_outputs_have_finite_values_and_gradients(name: str) -> None:
    """Logits of ±1000 have finite losses and gradients."""
    outputs = torch.tensor([[1e3, -1e3, 0.0], [-1e3, 1e3, 0.0]], requires_grad=True)
    values = build_loss(Spec(name))(network(), outputs, torch.tensor([0, 0]))
    values.sum().backward()
    assert outputs.grad is not None
    assert values.isfinite().all()
    assert outputs.grad.isfinite().all()
    assert values[0] < values[1]
