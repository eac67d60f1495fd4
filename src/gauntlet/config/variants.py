"""The schema of variants and their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, create_model, model_validator
from pydantic.fields import FieldInfo

from gauntlet.config.base import Closed, Title
from gauntlet.config.budgets import LINF_ABOVE_1, step_size_problem
from gauntlet.config.checkpoint_files import Checkpoints, OneCheckpoint
from gauntlet.config.components import component_type, component_validator, refuse, split_component, validate_at
from gauntlet.config.error_texts import found_text
from gauntlet.core.errors import InputError
from gauntlet.registry import (
    ADVERSARIES,
    AUGMENTATIONS,
    LOSSES,
    MIXINGS,
    MODELS,
    NEGATIVES,
    OPTIMIZERS,
    PARTS,
    REGULARIZERS,
    SCHEDULES,
    Fraction,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Spec,
    complete_part,
    default_normalization,
)


def _validate_adversary(value: Any) -> Spec:
    """Check an adversary, its budget and its step size."""
    spec = component_validator(ADVERSARIES)(value)
    options = ADVERSARIES.known_options(spec)
    if options.get("norm") == "linf" and options.get("epsilon", 0) > 1:
        refuse([(("epsilon",), f"{LINF_ABOVE_1}; 8 of 255 is 0.0314")])
    if problem := step_size_problem(options.get("step_size"), options.get("epsilon")):
        refuse([(("step_size",), problem)])
    return spec


class Recovery(Closed):
    """Recovery from a collapse of training."""

    threshold: Fraction = Field(
        0.5, description="collapsed: the training accuracy after an epoch is below this share of the last good epoch's"
    )
    samples: PositiveInt = Field(1000, description="training images, drawn once, for this accuracy")
    frozen_epochs: NonNegativeInt = Field(5, description="epochs after a collapse in which ramps do not advance")
    max_collapses: PositiveInt = Field(3, description="one more collapse ends the training as failed")


class GradientClipping(Closed):
    """Clipping of the gradient of each step: one factor for all parameters, so that its direction is kept."""

    limit: PositiveFloat = Field(5.0, description="largest norm of the gradient; a larger one is scaled to it")
    norm: Literal["linf", "l2"] = Field("linf", description="norm of the gradient over all parameters together")


_LEFT_OUT = ("gpus", "initial_weights")
"""Keys of a training that a recipe leaves out: `gpus` decides no result, of a file its content does, not its path."""

_LATER = ("ema", "mixing", "awp")
"""Keys that a recipe has only where they are set: cells from before these keys stay fresh."""


class Averaging(Closed):
    """Exponential moving average of the weights over the steps (EMA)."""

    decay: OpenFraction = Field(
        0.999, description="weight of the past in each step; at most (1 + t) / (10 + t) in step t"
    )


class WeightPerturbation(Closed):
    """Adversarial weight perturbation (AWP; Wu et al. 2020, arXiv:2004.05884)."""

    gamma: PositiveFloat = Field(
        0.005, description="size of the perturbation relative to the norm of each weight tensor; paper: 0.005 to 0.01"
    )
    start_epoch: PositiveInt = Field(1, description="first epoch with perturbed weights")


class Training(Closed):
    """Training of a network."""

    epochs: PositiveInt = Field(30, description="passes over the training images, at most")
    batch_size: PositiveInt = Field(128, description="images per step")
    optimizer: component_type(OPTIMIZERS) = Field(  # type: ignore[valid-type]
        "adam", validate_default=True, description="adam, adamw or sgd, or `torch.optim:NAME`, with their options"
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="of the passes of each step; weights, losses, constraints and validation are float32 in any case; "
        "tf32 needs an NVIDIA GPU of compute capability 8.0 or more",
    )
    schedule: component_type(SCHEDULES) = Field(  # type: ignore[valid-type]
        "constant", validate_default=True, description="learning rate over the epochs or the steps"
    )
    warmup_epochs: NonNegativeInt = Field(0, description="first epochs, in which the learning rate rises linearly")
    regularizers: list[component_type(REGULARIZERS)] = Field(  # type: ignore[valid-type]
        [], description="penalties added to each step's loss"
    )
    gradient_clipping: GradientClipping | None = Field(
        None, description="scales larger gradients down before each step; `{}`: all defaults"
    )
    keep: Literal["best", "best_accuracy", "last"] = Field(
        "best",
        description="epoch whose weights are kept, of those in which all parts of the training are on: the one of "
        "the lowest validation loss, of the highest validation accuracy (both under the adversary, if there is one), "
        "or the last one",
    )
    ema: Averaging | None = Field(
        None, description="average of the weights over the steps, validated and kept in their place; `{}`: all defaults"
    )
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a better one")
    augmentation: list[component_type(AUGMENTATIONS)] = Field(  # type: ignore[valid-type]
        [], description="applied in order to each batch, on the device"
    )
    mixing: Annotated[Spec, PlainValidator(component_validator(MIXINGS))] | None = Field(
        None, description="mixes the images of each batch after augmentation, and their targets in the same shares"
    )
    negatives: Annotated[Spec, PlainValidator(component_validator(NEGATIVES))] | None = Field(
        None,
        description="images of no class, made from each batch, whose mean loss is added; for losses of sigmoid outputs",
    )
    adversary: Annotated[Spec, PlainValidator(_validate_adversary)] | None = Field(
        None, description="perturbs the images of each step after augmentation: adversarial training"
    )
    awp: WeightPerturbation | None = Field(
        None, description="takes each step on the loss at weights perturbed to raise it; `{}`: all defaults"
    )
    validation_adversary: Annotated[Spec, PlainValidator(_validate_adversary)] | None = Field(
        None, description="perturbs the validation images after every epoch, for the history only"
    )
    recovery: Recovery | None = Field(
        None, description="returns to the last good epoch after a collapse; `{}`: all defaults"
    )
    gpus: PositiveInt = Field(
        1, description="processes that share each batch, each with a GPU if there is one; changes no result"
    )
    initial_weights: OneCheckpoint | None = Field(
        None, description="checkpoint that every seed starts from (fine-tuning): a path, or `{file: ..., entry: ...}`"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer(cls, value: Any) -> Any:
        """Fill in the default optimizer before validation, so that every slice holds its options."""
        return {"optimizer": "adam", **value} if isinstance(value, Mapping) else value

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the bytes of a trained network, defaults filled in, except for the initial weights."""
        values = {name: _plain(getattr(self, name)) for name in type(self).model_fields if name not in _LEFT_OUT}
        return {name: value for name, value in values.items() if value is not None or name not in _LATER} | {
            # A name alone where there are no options: cells from before schedules had options stay fresh.
            "schedule": self.schedule.as_dict() if self.schedule.options else self.schedule.name
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.as_dict()
    if isinstance(value, Closed):
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
TrainingChanges.__doc__ = "Keys of `training` that one variant sets; all others are the experiment's."


def _validate_network(value: Any) -> Spec:
    """Check a network and its parts, such as its head, which become plain mappings among its options."""
    if isinstance(value, Spec):
        return value
    keys = _part_keys(value) or ()
    # A network that is not known is refused for its name only.
    if isinstance(value, Mapping) and _part_keys(value) is not None:
        if "head" in value and "head" not in (*keys, *_options_of(value)):
            refuse([(("head",), f"{value['name']} has an output of its own and takes no head")])
        if "normalize" in value and "normalize" not in _options_of(value):
            problem = "is a key of the variant, next to `model`: data, none, or {mean: [...], std: [...]}"
            refuse([(("normalize",), problem)])
    own, network = split_component(value, MODELS, keys)
    parts = {}
    for key in keys:
        registry, default = PARTS[key]
        part = complete_part(network.name, key, own.get(key, default))
        parts[key] = validate_at(key, component_validator(registry), part).as_dict()
    return Spec(network.name, {**network.options, **parts})


def _part_keys(value: Any) -> tuple[str, ...] | None:
    """List the keys of a network that name components; None if the network is not known."""
    name = value.get("name") if isinstance(value, Mapping) else value
    try:
        return tuple(MODELS.entry(name).tags.get("parts", ())) if isinstance(name, str) else None
    except InputError:
        return None


def _options_of(value: Mapping[Any, Any]) -> tuple[str, ...]:
    """List the options of a network; none if the network is not known."""
    try:
        return tuple(option.name for option in MODELS.entry(str(value.get("name"))).options or ())
    except InputError:
        return ()


class Statistics(Closed):
    """Mean and standard deviation per channel of pixels in [0, 1]; one value holds for all channels."""

    mean: tuple[float, ...] = Field(strict=False, min_length=1, description="subtracted from each channel")
    std: tuple[PositiveFloat, ...] = Field(strict=False, min_length=1, description="each channel is divided by it")

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        """Accept one number in place of a list."""
        if not isinstance(value, Mapping):
            return value
        return {key: [item] if isinstance(item, int | float) else item for key, item in value.items()}

    @model_validator(mode="after")
    def _of_pixels(self) -> Self:
        """Refuse statistics of pixels from 0 to 255, and lists that cannot be of the same channels."""
        if not all(0 <= value <= 1 for value in self.mean):
            refuse([(("mean",), "pixels are in [0, 1], so their mean is too; divide mean and std by 255")])
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            refuse([(("std",), f"expected {len(self.mean)} numbers, as many as in mean, or one, got {len(self.std)}")])
        return self


def _validate_normalization(value: Any) -> Any:
    """Check a normalization: ``data``, ``none``, or statistics."""
    if value in ("data", "none") or isinstance(value, Statistics):
        return value
    if not isinstance(value, Mapping):
        refuse([((), f"expected data, none or a mapping with mean and std, got {found_text(value)}")])
    return Statistics.model_validate(dict(value))


Normalization = Annotated[Literal["data", "none"] | Statistics, PlainValidator(_validate_normalization)]


class Variant(Closed):
    """One row of the ablation: a network, and its loss and changes to the experiment's training, or its weights."""

    model: Annotated[Spec, PlainValidator(_validate_network)] = Field(
        description="a network; its keys `head`, `activation`, `unit` and `folding` name its parts, if it has them"
    )
    loss: component_type(LOSSES) = Field(  # type: ignore[valid-type]
        "cross_entropy", validate_default=True, description="the training loss"
    )
    weights: Checkpoints | None = Field(
        None,
        description="checkpoint of a network that exists: it is adopted, not trained; a path, `{file: ..., entry: "
        "...}`, or a list with one for each seed, and the variant's seeds are then 0, 1, … instead of `seeds`",
    )
    normalize: Normalization | None = Field(
        None,
        description="first layer of the network: `data` subtracts the training images' mean and divides by their "
        "standard deviation, `none` leaves pixels in [0, 1], `{mean: [...], std: [...]}` names other statistics; "
        "default: `none` for `lipschitz_cnn`, else `data`",
    )
    training: TrainingChanges = Field(TrainingChanges(), description="keys of `training` that differ for this variant")
    title: Title | None = Field(None, description="name in tables and figures; default: the key")

    @property
    def is_adopted(self) -> bool:
        """True if the network's weights are those of checkpoints, and nothing is trained."""
        return self.weights is not None

    @property
    def known_loss(self) -> Spec | None:
        """The training loss; None for an adopted network whose loss is not set."""
        return None if self.is_adopted and "loss" not in self.model_fields_set else self.loss

    @property
    def normalization(self) -> Any:
        """Normalization of the first layer as an argument of `build`: None by default, or a pair of mean and std."""
        chosen = self.normalize
        return (chosen.mean, chosen.std) if isinstance(chosen, Statistics) else chosen

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the bytes of a network, except for its training or its weights, defaults filled in."""
        chosen = default_normalization(self.model.name) if self.normalize is None else self.normalize
        normalize = chosen.model_dump(mode="json") if isinstance(chosen, Statistics) else chosen
        loss = {"loss": self.known_loss.as_dict()} if self.known_loss else {}
        return {"model": self.model.as_dict(), **loss, "normalize": normalize}
