"""Memory of a GPU that runs out: the work goes on with smaller batches, and gives the same rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from gauntlet.core.device_memory import CudaMemory, limit_memory, measured_batch_size
from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate
from gauntlet.robustness.evaluation.types import Evaluation

ATTACK = AttackSettings("a", Spec("pgd", {"steps": 3}), "linf", (0.02,))


def problem(count: int = 64) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a network with large activations, images, and the classes that it predicts."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 8, 3), nn.Flatten(), nn.Linear(30752, 10)]
    network = nn.Sequential(*layers).eval()
    images = torch.rand(count, 3, 64, 64)
    with torch.no_grad():
        return network, images, torch.cat([network(part) for part in images.split(8)]).argmax(1)


def attack(device: torch.device, batch_size: int | Literal["auto"], *, count: int = 64) -> Evaluation:
    """Attack the network with batches of a size."""
    return evaluate(
        *problem(count), ATTACK, identity=CellIdentity(), device=device, precision="float32", batch_size=batch_size
    )


def test_an_attack_goes_on_with_smaller_batches(gpu: torch.device) -> None:
    """A batch of 64 needs over 500 MB, of which this process gets half."""
    expected = attack(gpu, 8)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    try:
        limit_memory(gpu, (torch.cuda.memory_allocated(gpu) + 250e6) / total)
        found = attack(gpu, 64)
    finally:
        limit_memory(gpu, 1.0)
    assert found.rows["status"].equals(expected.rows["status"])
    assert found.rows["epsilon"].equals(expected.rows["epsilon"])


def test_the_measured_batch_fits(gpu: torch.device) -> None:
    """A power of two that needs at most half of what is free, and more than an eighth."""
    network = problem()[0].to(gpu)

    def run(size: int) -> None:
        x = torch.rand(size, 3, 64, 64, device=gpu, requires_grad=True)
        network(x).sum().backward()

    memory = CudaMemory(gpu)
    size = measured_batch_size(memory, run, most=1 << 20)
    free = memory.free()
    assert size & (size - 1) == 0
    assert free / 8 < memory.peak(lambda: run(size)) < 0.55 * free


def test_the_first_batch_of_an_attack_is_measured(device: torch.device) -> None:
    """The automatic size gives the rows of any other."""
    found, expected = attack(device, "auto", count=4), attack(device, 2, count=4)
    assert found.rows["status"].equals(expected.rows["status"])
