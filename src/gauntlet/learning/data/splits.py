"""Labeled images in memory, and the content hash that identifies an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Labeled images: `images` uint8 `(N, C, H, W)`, `labels` int64 `(N,)` in [0, number of classes)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if not _is_tensor(self.images, torch.uint8) or self.images.ndim != 4:
            raise ValueError(f"expected images as a tensor uint8 (N, C, H, W), got {_described(self.images)}")
        if not _is_tensor(self.labels, torch.int64) or self.labels.shape != self.images.shape[:1]:
            got = _described(self.labels)
            raise ValueError(f"expected labels as a tensor int64 ({len(self.images)},), got {got}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: str | torch.device) -> Split:
        """Return the split on a device."""
        return Split(self.images.to(device), self.labels.to(device))

    def with_labels(self, labels: Tensor) -> Split:
        """Return the same images with other labels."""
        return Split(self.images, labels)


def _is_tensor(value: Any, dtype: torch.dtype) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype


def _described(value: Any) -> str:
    """Return the kind of a value and, where it has them, its type and shape, such as ``ndarray int64 (8,)``."""
    parts = (str(getattr(value, "dtype", "")).removeprefix("torch."), str(tuple(getattr(value, "shape", ()))))
    return " ".join((type(value).__name__, *(parts if parts[0] else ())))


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
