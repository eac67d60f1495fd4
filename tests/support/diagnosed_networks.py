"""Networks on the digits whose gradients are known to be sound or masked."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import Spec

EPSILONS = {"linf": (0.03, 0.1, 0.2), "l2": (0.5, 1.0)}
TRAINED = 1200


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images `(N, 1, 8, 8)` in [0, 1] and labels, then test images and labels."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(found.target, dtype=torch.int64)
    return images[:TRAINED], labels[:TRAINED], images[TRAINED:], labels[TRAINED:]


def train_network(
    *, head: str = "softmax", loss: str = "cross_entropy", epochs: int = 20, epsilon: float = 0.0
) -> Network:
    """Train a small network, on PGD examples of three steps if `epsilon` is above 0."""
    x, y, _, _ = digits()
    options = {"widths": [16, 32], "head": {"name": head}}
    network = build(Spec("cnn", options), image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.38,))
    objective = build_loss(Spec(loss))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):
            images, labels = x[rows], y[rows]
            if epsilon:
                images = pgd_examples(network, images, labels, epsilon)
            optimizer.zero_grad()
            value = objective(network, network.outputs(images), labels).mean()
            value.backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def pgd_examples(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, steps: int = 3) -> Tensor:
    """Ascend the cross-entropy inside the ball, as adversarial training does."""
    point = x
    for _ in range(steps):
        leaf = point.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(leaf), y), leaf)
        point = torch.clamp(leaf.detach() + epsilon / 2 * gradient.sign(), x - epsilon, x + epsilon).clamp(0, 1)
    return point


class Rounded(nn.Module):
    """Network that rounds the image to a few levels first, so that no gradient reaches the input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.network((x * 8).round() / 8)


class Saturated(nn.Module):
    """Network with logits scaled until the softmax is one-hot in float32: the cross-entropy is flat."""

    def __init__(self, network: nn.Module, scale: float = 1e4) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.scale * self.network(x)


class Shattered(nn.Module):
    """Network with a wave of short length added to each logit: gradients have random directions."""

    def __init__(self, network: nn.Module, size: float = 4.0, frequency: float = 3000.0) -> None:
        super().__init__()
        self.network, self.size, self.frequency = network, size, frequency
        mixed = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
        self.register_buffer("mixed", mixed / 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.network(x) + self.size * torch.sin(self.frequency * x.flatten(1) @ self.mixed)


class OtherGradient(nn.Module):
    """Network whose logits are right and whose gradient is that of another function.

    ``unrelated``: of random linear logits; ``reversed``: of the negative logits; ``one pixel``: with respect to a
    single pixel; ``straight through``: of the network itself, at pixels that are rounded to 256 levels.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(2))
        self.register_buffer("weights", weights)
        self.register_buffer("pixel", functional.one_hot(torch.tensor(27), 64).float().view(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        if self.kind == "unrelated":
            return self.network(x.detach()) + (x - x.detach()).flatten(1) @ self.weights
        if self.kind == "reversed":
            logits = self.network(x)
            return 2 * logits.detach() - logits
        if self.kind == "one pixel":
            return self.network(x.detach() + self.pixel * (x - x.detach()))
        return self.network((x.detach() * 255).round() / 255 + (x - x.detach()))
