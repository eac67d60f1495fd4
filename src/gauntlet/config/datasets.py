"""The part of a configuration that says where images come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
)

from gauntlet.config.base import Closed, flattened
from gauntlet.config.components import field
from gauntlet.registry import SOURCES, OpenFraction, PositiveInt, Seed


class Limit(Closed):
    """How many images of each split are used; the rest is left out by an addressed draw."""

    train: PositiveInt | None = Field(None, description="images kept for training and validation together")
    test: PositiveInt | None = Field(None, description="images kept for testing")


class Dataset(Closed):
    """Where the images come from, and how they are split."""

    source: field(SOURCES) = Field(description="a data source; its options stand beside this key")  # type: ignore[valid-type]
    validation: OpenFraction | Literal["half_of_test"] = Field(
        0.2,
        description="share of the training images held out for validation, or half_of_test for half of the test images",
    )
    test: OpenFraction = Field(0.2, description="share held out for testing where the source has no test split")
    limit: Limit = Field(Limit(), description="use fewer images, for a quick run")
    seed: Seed = Field(0, description="address of the draws that split the images")

    _separate = flattened(SOURCES, "source", key="source")

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the bytes of the stored split."""
        return {**self.model_dump(exclude={"source"}), "source": self.source.as_dict()}
