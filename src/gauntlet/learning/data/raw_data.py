"""Output of a source: its splits, in memory or encoded, and its classes."""

from __future__ import annotations

from dataclasses import dataclass

from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.splits import Split

SourceSplit = Split | EncodedSplit


@dataclass(frozen=True)
class RawData:
    """Output of a source: its splits, and the class names in label order.

    A source may lack training images if it has test images.
    """

    train: SourceSplit | None
    test: SourceSplit | None
    validation: SourceSplit | None
    classes: tuple[str, ...]
