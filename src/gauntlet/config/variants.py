"""The part of a configuration that says what is trained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from gauntlet.config.base import Closed, Title
from gauntlet.config.components import component, field, refuse, split, under
from gauntlet.core.errors import InputError
from gauntlet.registry import (
    ADVERSARIES,
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    NEGATIVES,
    OPTIMIZERS,
    PARTS,
    REGULARIZERS,
    SCHEDULES,
    Fraction,
    NonNegativeInt,
    PositiveInt,
    Spec,
    complete_part,
)


def _adversary(value: Any) -> Spec:
    """Check an adversary and its budget."""
    spec = component(ADVERSARIES)(value)
    if spec.options.get("norm") == "linf" and (spec.options.get("epsilon") or 0) > 1:
        refuse([(("epsilon",), "pixels are in [0, 1], so a budget above 1 in linf is none; 8 of 255 is 0.0314")])
    return spec


class Recovery(Closed):
    """What is done about a training that collapses."""

    threshold: Fraction = Field(
        0.5, description="collapsed: the training accuracy after an epoch is below this share of the last good epoch's"
    )
    samples: PositiveInt = Field(1000, description="training images, drawn once, that it is measured on")
    frozen_epochs: NonNegativeInt = Field(5, description="epochs after a collapse in which ramps stand still")
    max_collapses: PositiveInt = Field(3, description="one collapse more ends the training as failed")


class Training(Closed):
    """How a network is trained."""

    epochs: PositiveInt = Field(30, description="passes over the training images, at most")
    batch_size: PositiveInt = Field(128, description="images per step")
    optimizer: field(OPTIMIZERS) = Field(  # type: ignore[valid-type]
        "adam", validate_default=True, description="adam or sgd, with their options"
    )
    schedule: field(SCHEDULES) = Field(  # type: ignore[valid-type]
        "constant", validate_default=True, description="learning rate over the epochs"
    )
    warmup_epochs: NonNegativeInt = Field(0, description="first epochs, in which the learning rate rises linearly")
    regularizers: list[field(REGULARIZERS)] = Field([], description="penalties that are added to each step's loss")  # type: ignore[valid-type]
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a lower validation loss")
    augmentation: list[field(AUGMENTATIONS)] = Field([], description="applied in order to each batch, on the device")  # type: ignore[valid-type]
    negatives: Annotated[Spec, PlainValidator(component(NEGATIVES))] | None = Field(
        None, description="images of no class, made of each batch and appended to it; for losses of sigmoid outputs"
    )
    adversary: Annotated[Spec, PlainValidator(_adversary)] | None = Field(
        None, description="perturbs the images of each step after augmentation: adversarial training"
    )
    validation_adversary: Annotated[Spec, PlainValidator(_adversary)] | None = Field(
        None, description="the validation split is measured under it after every epoch; it decides nothing"
    )
    recovery: Recovery | None = Field(None, description="go back after a collapse; `{}` with the defaults below")
    gpus: PositiveInt = Field(
        1, description="processes that share each batch, each with a GPU where there is one; decides no result"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer(cls, value: Any) -> Any:
        """Check the default optimizer too, so that its options stand in every slice."""
        return {"optimizer": "adam", **value} if isinstance(value, Mapping) else value

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the bytes of a trained network, defaults filled in."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields if name != "gpus"} | {
            # Spelled as ever where it is a name alone: what was made before there were others stays fresh.
            "schedule": self.schedule.as_dict() if self.schedule.options else self.schedule.name
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.as_dict()
    if isinstance(value, Recovery):
        return value.model_dump()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _type(info: FieldInfo) -> Any:
    """Return a field's type with its constraints."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


# The defaults are never read; `null` is refused where `training` refuses it.
_CHANGES: dict[str, Any] = {name: (_type(info), None) for name, info in Training.model_fields.items()}

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
        parts[key] = under(key, component(registry), complete_part(network.name, key, own.get(key, default))).as_dict()
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
    loss: field(LOSSES) = Field("cross_entropy", validate_default=True, description="the training loss")  # type: ignore[valid-type]
    training: TrainingChanges = Field(TrainingChanges(), description="keys of `training` that differ for this variant")
    title: Title | None = Field(None, description="what it is called in print; without it, by its name")
