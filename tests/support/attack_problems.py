"""Models whose nearest adversarial example is known, and a small one that is cheap to attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.registry import ATTACKS, Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, Evaluation, evaluate


class Affine(nn.Module):
    """Logits scale * W (x - 1/2) with rows of a Hadamard matrix: all boundaries are equally steep in every norm."""

    def __init__(self, classes: int, scale: float = 50.0) -> None:
        super().__init__()
        rows = torch.ones(1, 1)
        while len(rows) < 64:
            rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
        self.weight = nn.Parameter(rows[1 : classes + 1] / 8)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.scale * (x.flatten(1) - 0.5) @ self.weight.T

    def nearest(self, x: Tensor, y: Tensor, norm: str) -> Tensor:
        """Return the exact distance `(B,)` to the nearest other class, far from the box."""
        dual = {"l1": torch.inf, "l2": 2, "linf": 1}[norm]
        logits = (x.double().flatten(1) - 0.5) @ self.weight.detach().double().T
        gap = logits.gather(1, y[:, None]) - logits
        steep = torch.cdist(self.weight.detach().double(), self.weight.detach().double(), p=dual)[y]
        return torch.where(steep > 0, gap / steep.clamp(min=1e-12), torch.inf).amin(1)


@dataclass(frozen=True)
class Problem:
    """A model, images it classifies correctly, and their labels."""

    network: nn.Module
    images: Tensor
    labels: Tensor

    def run(self, name: str, norm: str, epsilons: tuple[float, ...] | None = None, **settings: object) -> Evaluation:
        """Run one attack: `options` are its own, other arguments those of `evaluate`."""
        options = dict(settings.pop("options", {}))  # type: ignore[call-overload]
        seed = int(settings.pop("seed", 0))  # type: ignore[call-overload]
        entry = ATTACKS.entry(name)
        defaults = {option.name: option.default for option in entry.options or ()}
        plan = AttackSettings("attack", Spec(name, {**defaults, **options}), norm, epsilons)
        identity = CellIdentity("experiment", "variant", seed)
        return evaluate(self.network, self.images, self.labels, plan, identity=identity, **settings)  # type: ignore[arg-type]


def affine_problem(classes: int, shape: tuple[int, int, int], samples: int = 7) -> Problem:
    """Return images a step from 1/2 towards their class and half as far towards a clear rival.

    No boundary lies outside the box, and no two are equally near, which would mislead the cross-entropy.
    """
    network = Affine(classes).eval()
    rows, labels = network.weight.detach(), torch.arange(samples) % classes
    noise = torch.rand(samples, 64, generator=torch.Generator().manual_seed(classes)) - 0.5
    images = (0.5 + 0.4 * rows[labels] + 0.15 * rows[(labels + 1) % classes] + 0.1 * noise).reshape(samples, *shape)
    assert torch.equal(network(images).argmax(1), labels)
    return Problem(network, images, labels)


def convolutional_problem() -> Problem:
    """Return a small random network; a fifth of the labels are wrong; images reach the edges of the box."""
    random = torch.Generator().manual_seed(1)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4)]
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.4)
    images = (torch.rand(15, 1, 6, 6, generator=random) * 1.4 - 0.2).clamp(0, 1)
    labels = network(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 4
    return Problem(network, images, labels)


class Gaussian(nn.Module):
    """Logits scale * W (x - 1/2) with weights drawn from N(0, 1/D): small logits, and boundaries of every steepness."""

    def __init__(self, classes: int, entries: int, *, scale: float, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, entries, generator=random) / entries**0.5)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.scale * ((x.flatten(1) - 0.5) @ self.weight.T)

    def nearest(self, x: Tensor, y: Tensor, norm: str) -> Tensor:
        """Return the exact distance `(B,)` to the nearest other class, far from the box."""
        dual = {"l1": torch.inf, "l2": 2, "linf": 1}[norm]
        weight = self.weight.detach().double()
        logits = (x.double().flatten(1) - 0.5) @ weight.T
        steep = torch.cdist(weight, weight, p=dual)[y]
        gap = logits.gather(1, y[:, None]) - logits
        return torch.where(steep > 0, gap / steep.clamp(min=1e-12), torch.inf).amin(1)


def gaussian_problem(norm: str, *, scale: float = 1.0, samples: int = 96, seed: int = 0) -> tuple[Problem, float]:
    """Return images of 3x7x5 around gray, all equally far from the nearest of 5 other classes, and that distance.

    The labels are the classes predicted; a third of the nearest classes are not the likeliest others.
    """
    network = Gaussian(6, 105, scale=scale, seed=seed).eval()
    images = torch.rand(samples, 3, 7, 5, generator=torch.Generator().manual_seed(seed + 1)) - 0.5
    labels = network(0.5 + images).argmax(1)
    distances = network.nearest(0.5 + images, labels, norm)
    target = {"linf": 0.01, "l2": 0.08, "l1": 0.2}[norm]
    images = 0.5 + (target / distances).float().reshape(-1, 1, 1, 1) * images
    inside = ((images > target) & (images < 1 - target)).flatten(1).all(1)
    problem = Problem(network, images[inside], labels[inside])
    assert torch.equal(network(problem.images).argmax(1), problem.labels)
    return problem, target
