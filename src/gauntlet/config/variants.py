"""The part of a configuration that says what is trained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainValidator,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from gauntlet.config.closed import Closed
from gauntlet.config.components import component, field, refuse, split, under
from gauntlet.errors import InputError
from gauntlet.registry import (
    ADVERSARIES,
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    PARTS,
    PositiveInt,
    Spec,
    part_of,
)


def _adversary(value: Any) -> Spec:
    """Check an adversary and its budget."""
    spec = component(ADVERSARIES)(value)
    if spec.options.get("norm") == "linf" and (spec.options.get("epsilon") or 0) > 1:
        refuse([(("epsilon",), "pixels are in [0, 1], so a budget above 1 in linf is none; 8 of 255 is 0.0314")])
    return spec


class Training(Closed):
    """How a network is trained."""

    epochs: PositiveInt = Field(30, description="passes over the training images, at most")
    batch_size: PositiveInt = Field(128, description="images per step")
    optimizer: field(OPTIMIZERS) = Field(Spec("adam"), description="adam or sgd, with their options")  # type: ignore[valid-type]
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the epochs")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a lower validation loss")
    augmentation: list[field(AUGMENTATIONS)] = Field([], description="applied in order to each batch, on the device")  # type: ignore[valid-type]
    adversary: Annotated[Spec, PlainValidator(_adversary)] | None = Field(
        None, description="perturbs the images of each step after augmentation: adversarial training"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer(cls, value: Any) -> Any:
        """Check the default optimizer too, so that its options stand in every slice."""
        return {"optimizer": "adam", **value} if isinstance(value, Mapping) else value

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the bytes of a trained network, defaults filled in."""
        plain = self.model_dump(exclude={"optimizer", "augmentation", "adversary"})
        augmentation = [spec.as_dict() for spec in self.augmentation]
        adversary = None if self.adversary is None else self.adversary.as_dict()
        return {**plain, "optimizer": self.optimizer.as_dict(), "augmentation": augmentation, "adversary": adversary}


def _optional(info: FieldInfo) -> Any:
    """Give the field's type, constraints kept, with None for "not given"."""
    constrained: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return constrained | None


_CHANGES: dict[str, Any] = {name: (_optional(info), None) for name, info in Training.model_fields.items()}

TrainingChanges: Any = create_model(
    "TrainingChanges",
    __base__=Closed,
    **_CHANGES,
)
TrainingChanges.__doc__ = "What one variant trains differently; keys not given are the experiment's."


def _network(value: Any) -> Spec:
    """Check a network and its parts, as its head; they stand among its options as plain mappings."""
    if isinstance(value, Spec):
        return value
    taken = _parts_taken(value)
    if isinstance(value, Mapping) and "head" in value and "head" not in taken:
        refuse([(("head",), f"{value.get('name')} has an output of its own and takes no head")])
    own, network = split(value, MODELS, taken)
    parts = {}
    for key in taken:
        registry, default = PARTS[key]
        parts[key] = under(key, component(registry), part_of(network.name, key, own.get(key, default))).as_dict()
    return Spec(network.name, {**network.options, **parts})


def _parts_taken(value: Any) -> tuple[str, ...]:
    """List the keys of a network that name components of their own; none where the network is not known."""
    name = value.get("name") if isinstance(value, Mapping) else value
    try:
        return tuple(MODELS.entry(str(name)).tags.get("parts", ()))
    except InputError:
        return ()


class Variant(Closed):
    """One row of the ablation: a network, the loss it is trained with, and what it trains differently."""

    model: Annotated[Spec, PlainValidator(_network)] = Field(
        description="a network; its keys `head`, `activation`, `unit` and `folding` name its parts, where it takes them"
    )
    loss: field(LOSSES) = Field(Spec("cross_entropy"), description="the training loss")  # type: ignore[valid-type]
    training: TrainingChanges = Field(TrainingChanges(), description="keys of `training` that differ for this variant")
