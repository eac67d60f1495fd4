"""The schema of data sets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gauntlet.config.base import Closed, inline_component
from gauntlet.config.components import component_type
from gauntlet.registry import SOURCES, OpenFraction, PositiveInt, Seed


class Limit(Closed):
    """Number of images per split that are used; the others are left out at random, by the data set's seed."""

    train: PositiveInt | None = Field(
        None,
        description="training images kept, from which a share `validation` is held out; of a source's own validation "
        "split at most as many are kept too",
    )
    test: PositiveInt | None = Field(
        None, description="images kept for testing; with half_of_test for validation and testing together"
    )


class Dataset(Closed):
    """Source of the images, and their splits."""

    source: component_type(SOURCES) = Field(  # type: ignore[valid-type]
        description="name of a data source; its options are further keys of this mapping"
    )
    validation: OpenFraction | Literal["half_of_test"] = Field(
        0.2,
        description="share of the training images held out for validation, or half_of_test for half of the test images",
    )
    test: OpenFraction | Literal["all"] = Field(
        0.2,
        description="share held out for testing if the source has no test split, or all, if nothing is trained",
    )
    limit: Limit = Field(Limit(), description="use fewer images, for a quick run")
    seed: Seed = Field(0, description="seed of the draws that split the images")

    _inline = inline_component(SOURCES, "source", key="source")

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the bytes of the stored split."""
        return {**self.model_dump(exclude={"source"}), "source": self.source.as_dict()}
