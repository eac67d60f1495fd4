"""Residual blocks of two 3x3 convolutions, with activations after or before them."""

from __future__ import annotations

from torch import Tensor, nn

from gauntlet.learning.models.layer_factory import LayerFactory


class BasicBlock(nn.Module):
    """Conv3x3, norm, activation, conv3x3, norm; then the shortcut is added, and an activation follows.

    The shortcut is the identity, or a linear conv1x1 with norm where the shape changes. Maps are `(B, C, H, W)`.
    Source: He et al. 2016, arXiv:1512.03385.
    """

    def __init__(self, factory: LayerFactory, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv3x3(factory, in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            factory.activation(),
            conv3x3(factory, out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(_conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))
            factory.initialize(self.shortcut, factory.moment)
        self.activation = factory.activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H / stride, W / stride)`, rounded up."""
        y: Tensor = self.activation(self.layers(x) + self.shortcut(x))
        return y


class PreactivationBlock(nn.Module):
    """Norm, activation, conv3x3, norm, activation, conv3x3; then the shortcut is added.

    Where the shape changes, the shortcut is a linear conv1x1 of the first activation, else the identity. Maps are
    `(B, C, H, W)`. Source: He et al. 2016, arXiv:1603.05027.
    """

    def __init__(self, factory: LayerFactory, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(in_channels), factory.activation())
        self.layers = nn.Sequential(
            conv3x3(factory, in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            factory.activation(),
            conv3x3(factory, out_channels, out_channels, 1),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = _conv1x1(in_channels, out_channels, stride)
            factory.initialize(self.shortcut, factory.moment)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H / stride, W / stride)`, rounded up."""
        activated = self.first(x)
        y: Tensor = self.layers(activated) + (x if self.shortcut is None else self.shortcut(activated))
        return y


def conv3x3(
    factory: LayerFactory, in_channels: int, out_channels: int, stride: int, *, moment: float | None = None
) -> nn.Sequential:
    """Build an initialized conv3x3 without bias for inputs of mean square `moment`, by default that of activations."""
    # Batch normalization follows, here or in a later block, and would subtract a bias again.
    conv = factory.conv(in_channels, out_channels, 3, stride=stride, bias=False)
    factory.initialize(conv, factory.moment if moment is None else moment)
    return conv


def _conv1x1(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
