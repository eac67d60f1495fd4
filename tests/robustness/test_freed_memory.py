"""Memory that runs out: whatever asks the network frees the failed pass before it tries a smaller one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate
from gauntlet.robustness.evaluation.verification import check_gradients
from gauntlet.robustness.judge import Judge

CPU, IMAGES = torch.device("cpu"), torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Hungry(nn.Module):
    """A linear network that runs out of memory with over two images, and counts what is left of its failed passes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 4)
        self.failed: list[weakref.ref[Tensor]] = []
        self.left: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        self.left.append(sum(reference() is not None for reference in self.failed))
        activation = x.flatten(1) * 2
        if len(x) > 2:
            self.failed.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.linear(activation)
        return logits

    def __deepcopy__(self, memo: dict[int, Any]) -> Hungry:
        """Copy the weights; all copies share the record."""
        copy = Hungry()
        copy.load_state_dict(self.state_dict())
        copy.failed, copy.left = self.failed, self.left
        return copy.train(self.training)


def attack(network: nn.Module, name: str, **options: Any) -> None:
    """Run an attack on all images, of which a batch may have all."""
    settings = AttackSettings("a", Spec(name, options), "linf", (0.3,))
    labels = torch.arange(8) % 4
    evaluate(network, IMAGES, labels, settings, identity=CellIdentity(), batch_size=8, keep_examples=0)


def certify_all(network: nn.Module) -> None:
    """Certify all images."""
    spec = Spec("smoothing", {"n0": 8, "n": 12, "alpha": 0.001, "sigma": 0.1})
    certify(network, IMAGES, torch.arange(8) % 4, spec, name="c", norm="l2", identity=CellIdentity(), batch_size=8)


def ask_for_gradients(network: nn.Module) -> None:
    """Ask for the gradients of all images at once."""
    model = AttackModel(network, batch_size=8)
    model.start_counting(8)
    model.gradients(IMAGES, torch.arange(8) % 4, UNTARGETED_LOSSES["margin"])


ROUTES: dict[str, Callable[[nn.Module], object]] = {
    "judge": lambda network: Judge(network, device=CPU, batch_size=8).logits(IMAGES),
    "check of gradients": lambda network: check_gradients(AttackModel(network, batch_size=8), IMAGES),
    "gradients": ask_for_gradients,
    "attack by steps": lambda network: attack(network, "pgd", steps=2),
    "attack by passes of its own": lambda network: attack(network, "foolbox:LinfPGD", steps=2),
    "attack with batches of its own": lambda network: attack(network, "autoattack", steps=2, queries=3),
    "certificate": certify_all,
}


@pytest.fixture(autouse=True)
def counted_references() -> Iterator[None]:
    """Without the garbage collector, which would hide cycles that keep tensors alive on a GPU."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("route", ROUTES)
def test_a_failed_pass_is_freed_before_the_next(route: str) -> None:
    """No activation of a failed pass is alive in any later pass."""
    torch.manual_seed(0)
    network = Hungry().eval()
    ROUTES[route](network)
    assert len(network.failed) > 0
    assert set(network.left) == {0}
