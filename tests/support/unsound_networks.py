"""Networks whose results depend on more than image and state dict, as found in public code, and sound relatives."""

from __future__ import annotations

import math
import random
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Base(nn.Module):
    """Two linear layers."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.size = math.prod(image_shape)
        self.first, self.second = nn.Linear(self.size, 16), nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return self.second(self.first(x.flatten(1)).relu())


class Permutation(Base):
    """A permutation of the pixels as a plain attribute."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.order = torch.randperm(self.size)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1)[:, self.order])


class StoredPermutation(Base):
    """The permutation as a buffer: sound."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.register_buffer("order", torch.randperm(self.size))

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1)[:, self.order])


class UnstoredBuffer(Base):
    """Random features in a buffer that is not persistent."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.register_buffer("scale", torch.rand(self.size), persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1) * self.scale)


class NumpyScale(Base):
    """A NumPy array as a plain attribute."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.scale = np.random.rand(self.size).astype(np.float32)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1) * torch.from_numpy(self.scale))


class PythonFloat(Base):
    """A float of Python's generator."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.temperature = 1 + random.random()

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x) / self.temperature


class Closure(Base):
    """A random tensor inside a function."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        mask = torch.rand(self.size)
        self.masked = lambda x: x * mask

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(self.masked(x.flatten(1)))


class UnregisteredLayers(Base):
    """Layers in a plain list, which are neither trained nor stored."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.layers = [nn.Linear(self.size, self.size)]

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(self.layers[0](x.flatten(1)))


class RunningMean(Base):
    """A running mean of the inputs as a plain attribute, updated in training."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.mean = torch.zeros(self.size)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        flat = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * flat.detach().mean(0)
        return super().forward(flat - self.mean)


class TrainingSteps(Base):
    """A temperature that depends on the number of training passes so far."""

    steps = 0

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        self.steps += self.training
        return super().forward(x) / (1 + 0.001 * self.steps)


class OwnGenerator(Base):
    """Weights from a generator that no seed reaches."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        with torch.no_grad():
            self.first.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=self.first.weight.shape)))


class ExtraState(Base):
    """An entry of the state dict that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        """Return state that cannot be stored as tensors."""
        return {"version": 1}

    def set_extra_state(self, state: Any) -> None:
        """Take the state back."""


class Lazy(nn.Module):
    """Layers that draw their weights at the first forward: sound."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(num_classes))

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return self.layers(x)


class BatchCentered(Base):
    """The batch's mean is taken from each image, in evaluation too."""

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x - x.mean(0, keepdim=True))


class Normalized(nn.Module):
    """Batch normalization, whose statistics are the batch's in training only: sound."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(image_shape[0], 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(4 * image_shape[1] * image_shape[2], num_classes),
        )

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return self.layers(x)


class Auxiliary(Base):
    """Logits and hidden units in training, logits in evaluation."""

    def forward(self, x: Tensor) -> Any:
        """Map images to logits, in training also to hidden units."""
        logits = super().forward(x)
        return (logits, self.first.weight) if self.training else logits


class TrainingDict(Base):
    """A dictionary in training."""

    def forward(self, x: Tensor) -> Any:
        """Map images to logits, in training to a dictionary."""
        logits = super().forward(x)
        return {"scores": logits} if self.training else logits


class TrainingNone(Base):
    """Nothing in training."""

    def forward(self, x: Tensor) -> Any:
        """Map images to logits, in training to None."""
        return None if self.training else super().forward(x)


class Noise(Base):
    """Noise at every pass."""

    def forward(self, x: Tensor) -> Any:
        """Map noisy images to logits."""
        return super().forward(x + 0.1 * torch.randn_like(x))


class Scripted(nn.Module):
    """A class that scripts itself."""

    def __new__(cls, *, image_shape: tuple[int, int, int], num_classes: int) -> Any:
        """Return a scripted network in place of an instance."""
        layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 8), nn.ReLU(), nn.Linear(8, num_classes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.script(layers)
