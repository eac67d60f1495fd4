"""Parts of a training as a user may write them: they draw from global generators, or return what nobody expects."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.data.mixings import Mixture
from gauntlet.learning.models.network import Network


def darken_by_torch(images: Tensor, generator: torch.Generator) -> Tensor:
    """Darken each image by a factor from torch's generator."""
    return images * torch.rand((len(images), 1, 1, 1), device=images.device)


def darken_by_numpy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Darken the batch by a factor from NumPy's generator."""
    return images * float(np.random.rand())


def darken_by_python(images: Tensor, generator: torch.Generator) -> Tensor:
    """Darken the batch by a factor from Python's generator."""
    return images * random.random()


def brighten(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return pixels above 1."""
    return images + 0.5


def drop_channels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images without an axis of channels."""
    return images[:, 0]


def to_double(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return float64."""
    return images.double()


def to_list(images: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Return no tensor."""
    return list(images)


def mix_in_columns(images: Tensor, generator: torch.Generator) -> Mixture:
    """Return shares with the axes of images."""
    shares = images.new_full((len(images), 1, 1, 1), 0.5)
    return Mixture(0.5 * (images + images.flip(0)), torch.arange(len(images)).flip(0), shares)


class _Layers(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(torch.Size(image_shape).numel(), 16)
        self.inner, self.last = nn.Linear(16, 16), nn.Linear(16, num_classes)


class SkippedLayer(_Layers):
    """Network that leaves out a layer at random in training, by Python's generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        hidden = self.first(x.flatten(1)).relu()
        if not self.training or random.random() < 0.5:
            hidden = hidden + self.inner(hidden).relu()
        logits: Tensor = self.last(hidden)
        return logits


class NoisyInput(_Layers):
    """Random network: it adds noise in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.last(self.first((x + torch.randn_like(x)).flatten(1)).relu())
        return logits


class RandomTargets(nn.Module):
    """Loss that draws a target for each class when it is constructed."""

    targets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("targets", torch.randn(10, 10))

    def forward(self, network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the squared distance `(B,)` from the target of the label."""
        return (outputs - self.targets[labels]).square().sum(1)


class TrainedTargets(RandomTargets):
    """The same with targets that are parameters."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.targets = nn.Parameter(torch.randn(10, 10))


class InstanceStatistics(nn.Module):
    """Network with running statistics of instances."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(in_channels, 4, 3), nn.Linear(4, num_classes)
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.last(functional.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits


def faster_biases(parameters: Sequence[nn.Parameter], *, lr: float = 0.1) -> torch.optim.Optimizer:
    """Build SGD with ten times the learning rate for vectors."""
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim == 1]
    return torch.optim.SGD([{"params": matrices, "lr": lr}, {"params": vectors, "lr": 10 * lr}])
