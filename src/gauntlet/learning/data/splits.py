"""Labeled images as used throughout the package, and the content hash that identifies an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Labeled images: `images` uint8 `(N, C, H, W)`, `labels` int64 `(N,)` in [0, number of classes)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            got = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ValueError(f"expected images uint8 (N, C, H, W), got {got}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise ValueError(f"expected labels int64 ({len(self.images)},), got {got}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def select(self, indices: Tensor) -> Split:
        """Return the images at `indices` (int64 `(M,)`), in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class RawData:
    """Output of a source: its splits, and the class names in label order."""

    train: Split
    test: Split | None
    validation: Split | None
    classes: tuple[str, ...]


def to_unit(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [0, 1]; 255 becomes exactly 1."""
    return images.float() / 255


def sample_hash(image: Tensor) -> str:
    """Hash an image (float32 `(C, H, W)`): 16 hex characters of the SHA-256 of its shape and values."""
    values = image.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.sha256(str(tuple(values.shape)).encode())
    digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def sample_hashes(images: Tensor) -> list[str]:
    """Hash each image of a batch (float32 `(N, C, H, W)`)."""
    return [sample_hash(image) for image in images.detach().cpu()]
