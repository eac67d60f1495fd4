"""First batch sizes of an attack on a GPU: measured on small batches, here with memory that is counted in images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate, evaluator
from tests.support.attack_problems import affine_problem

ATTACK = AttackSettings("a", Spec("pgd", {"steps": 3}), "linf", (0.3,))


class Counted(nn.Module):
    """A network that runs out of memory with too many images, and records the sizes of its batches."""

    sizes: list[int] = []  # noqa: RUF012 (copies of the network share the record)
    most = 10**6

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.network(x)
        return logits


class Memory:
    """A device of 100 bytes, on which every image takes one."""

    def free(self) -> int:
        """Return everything."""
        return 100

    def peak(self, run: Callable[[], object]) -> int:
        """Return the size of the largest batch while `run` ran."""
        Counted.sizes.clear()
        run()
        return max(Counted.sizes)


@pytest.mark.parametrize(("most", "largest"), [(10**6, 32), (8, 4), (2, 4)])
def test_the_batches_of_an_attack_fit(monkeypatch: pytest.MonkeyPatch, most: int, largest: int) -> None:
    """Half of the free memory at most, then halved; the rows do not depend on it."""
    problem = affine_problem(4, (1, 8, 8), samples=70)
    images, labels = problem.images, problem.labels
    expected = evaluate(problem.network, images, labels, ATTACK, identity=CellIdentity()).rows
    network = Counted(problem.network).eval()
    monkeypatch.setattr(Counted, "most", most)
    monkeypatch.setattr(evaluator, "memory_of", lambda _device: Memory())
    parts = evaluator.evaluate_parts(network, images, labels, ATTACK, identity=CellIdentity(), part_size=70)
    monkeypatch.setattr(evaluator, "_evaluate_samples", cleared(evaluator._evaluate_samples))
    (part,) = parts
    assert max(Counted.sizes) == largest
    assert part.rows.column("epsilon").equals(expected.column("epsilon"))
    assert part.rows.column("adversarial_prediction").equals(expected.column("adversarial_prediction"))


def cleared(function: Callable[..., object]) -> Callable[..., object]:
    """Forget the sizes of earlier batches before a call."""

    def call(*arguments: object, **named: object) -> object:
        Counted.sizes.clear()
        return function(*arguments, **named)

    return call
