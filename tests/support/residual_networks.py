"""Networks of torchvision, as a user names them by import path."""

from __future__ import annotations

from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):
    """ResNet-18 with random weights."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
