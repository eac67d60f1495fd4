"""The schema of a configuration file: every key, its type, its default, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, create_model, model_validator
from pydantic.fields import FieldInfo

from gauntlet.config.components import component, field, refuse, split, under
from gauntlet.registry import (
    ATTACKS,
    AUGMENTATIONS,
    CERTIFICATES,
    HEADS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SOURCES,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Registry,
    Seed,
    Spec,
)
from gauntlet.signatures import class_attribute, locate

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
"""Names become folders and job names; nothing else may stand in one."""

Norm = Literal["l0", "l1", "l2", "linf"]


class Closed(BaseModel):
    """A part of the configuration: frozen, strict, and with no key that is not written here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _flattened(registry: Registry, into: str, *, key: str = "name") -> Any:
    """Let a part hold a component's options beside its own keys, as a user writes them."""

    def separate(cls: type[Closed], value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get(into), Spec):
            return value
        own, spec = split(value, registry, [name for name in cls.model_fields if name != into], key=key)
        return {**own, into: spec}

    return model_validator(mode="before")(classmethod(separate))  # type: ignore[arg-type]


class Limit(Closed):
    """How many images of each split are used; the rest is left out by an addressed draw."""

    train: PositiveInt | None = Field(None, description="images kept for training and validation together")
    test: PositiveInt | None = Field(None, description="images kept for testing")


class Dataset(Closed):
    """Where the images come from, and how they are split."""

    source: field(SOURCES) = Field(description="a data source; its options stand beside this key")  # type: ignore[valid-type]
    validation: OpenFraction | Literal["half_of_test"] = Field(
        0.2, description="share of the training images held out for validation, or half of the test images"
    )
    test: OpenFraction = Field(0.2, description="share held out for testing where the source has no test split")
    limit: Limit = Field(Limit(), description="use fewer images, for a quick run")
    seed: Seed = Field(0, description="address of the draws that split the images")

    _separate = _flattened(SOURCES, "source", key="source")

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the bytes of the stored split."""
        return {**self.model_dump(exclude={"source"}), "source": self.source.as_dict()}


class Training(Closed):
    """How a network is trained."""

    epochs: PositiveInt = Field(30, description="passes over the training images, at most")
    batch_size: PositiveInt = Field(128, description="images per step")
    optimizer: field(OPTIMIZERS) = Field(Spec("adam"), description="adam or sgd, with their options")  # type: ignore[valid-type]
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the epochs")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a lower validation loss")
    augmentation: list[field(AUGMENTATIONS)] = Field([], description="applied in order to each batch, on the device")  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer(cls, value: Any) -> Any:
        """Check the default optimizer too, so that its options stand in every slice."""
        return {"optimizer": "adam", **value} if isinstance(value, Mapping) else value

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the bytes of a trained network, defaults filled in."""
        plain = self.model_dump(exclude={"optimizer", "augmentation"})
        augmentation = [spec.as_dict() for spec in self.augmentation]
        return {**plain, "optimizer": self.optimizer.as_dict(), "augmentation": augmentation}


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
    """Check a network and its head; the head stands among the network's options as a plain mapping."""
    if isinstance(value, Spec):
        return value
    own, network = split(value, MODELS, ["head"])
    takes_head = MODELS.entry(network.name).tags.get("heads", False)
    if not takes_head:
        refuse([(("head",), f"{network.name} has an output of its own and takes no head")] if "head" in own else [])
        return network
    head = under("head", component(HEADS), own.get("head", "softmax"))
    return Spec(network.name, {**network.options, "head": head.as_dict()})


class Variant(Closed):
    """One row of the ablation: a network, the loss it is trained with, and what it trains differently."""

    model: Annotated[Spec, PlainValidator(_network)] = Field(description="a network; its key `head` names its output")
    loss: field(LOSSES) = Field(Spec("cross_entropy"), description="the training loss")  # type: ignore[valid-type]
    training: TrainingChanges = Field(TrainingChanges(), description="keys of `training` that differ for this variant")

    @model_validator(mode="after")
    def _loss_fits_output(self) -> Self:
        """Refuse a loss that needs an output this network does not have."""
        needs = LOSSES.entry(self.loss.name).tags.get("outputs")
        head = self.model.options.get("head")
        gives = (
            HEADS.entry(head["name"]).tags.get("outputs") if head else MODELS.entry(self.model.name).tags.get("outputs")
        )
        if needs and gives and not set(needs) & set(gives):
            wanted = " or ".join(needs)
            refuse(
                [(("loss",), f"{self.loss.name} needs an output of {wanted}, this network gives {' and '.join(gives)}")]
            )
        return self


class Attack(Closed):
    """One attack: a column of the results."""

    attack: Spec = Field(description="an attack, by `name`; its options stand beside this key")
    norm: Norm = Field(description="the norm that measures the budget; may be left out where the attack has one only")
    epsilons: tuple[PositiveFloat, ...] | None = Field(
        None, strict=False, description="budgets in pixel units of [0, 1]; required for bounded attacks only"
    )
    seed: Seed = Field(0, description="address of the attack's own draws, beside the model's seed")
    surrogate: str | None = Field(None, description="view of the model that gradients are taken through")
    shards: PositiveInt = Field(1, description="jobs that the samples are split into; decides no result")

    @model_validator(mode="before")
    @classmethod
    def _only_norm(cls, value: Any) -> Any:
        """Fill in the norm where the attack has one only, and refuse one that it does not have."""
        if not isinstance(value, Mapping) or not isinstance(value.get("attack"), Spec):
            return value
        spec: Spec = value["attack"]
        norms = list(ATTACKS.entry(spec.name).tags.get("norms", ()))
        if "norm" not in value and len(norms) == 1:
            return {**value, "norm": norms[0]}
        if "norm" not in value:
            refuse([(("norm",), f"this key is required: {spec.name} works in {', '.join(norms) or 'any norm'}")])
        if norms and value["norm"] not in norms:
            refuse([(("norm",), f"{spec.name} does not work in {value['norm']!r}; it works in {', '.join(norms)}")])
        return value

    # Validators of this mode run from the last to the first: this one runs before `_only_norm`.
    _separate = _flattened(ATTACKS, "attack")

    @model_validator(mode="after")
    def _epsilons_fit_kind(self) -> Self:
        kind = ATTACKS.entry(self.attack.name).tags.get("kind")
        if kind == "bounded" and not self.epsilons:
            refuse([(("epsilons",), f"{self.attack.name} is a bounded attack and needs a list of budgets")])
        if kind == "minimum_norm" and self.epsilons is not None:
            refuse([(("epsilons",), f"{self.attack.name} looks for the smallest distance and takes no budgets")])
        if self.norm == "linf" and self.epsilons is not None and self.epsilons[-1] > 1:
            refuse([(("epsilons",), "pixels are in [0, 1], so a budget above 1 in linf is none; 8 of 255 is 0.0314")])
        if self.epsilons is not None and list(self.epsilons) != sorted(set(self.epsilons)):
            refuse([(("epsilons",), "the budgets must ascend, each once")])
        return self

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the rows of this attack on a given model."""
        plain = self.model_dump(exclude={"attack", "shards"})
        plain["epsilons"] = None if self.epsilons is None else list(self.epsilons)
        return {**plain, "attack": self.attack.as_dict()}


class Certificate(Closed):
    """One certificate: a lower bound on the distance of any adversarial example."""

    certificate: Spec = Field(description="a certificate, by `name`; its options stand beside this key")
    seed: Seed = Field(0, description="address of the certificate's own draws, beside the model's seed")

    _separate = _flattened(CERTIFICATES, "certificate")

    def applies_to(self, variant: Variant) -> bool:
        """Tell whether a variant's network has what this certificate needs, as registered or as its class defines."""
        needs = CERTIFICATES.entry(self.certificate.name).tags.get("needs")
        if needs is None:
            return True
        name = variant.model.name
        if ":" in name:
            located = locate(*name.split(":"))
            return located is not None and class_attribute(located, needs) is not None
        return bool(MODELS.entry(name).tags.get(needs))

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the rows of this certificate on a given model."""
        return {"seed": self.seed, "certificate": self.certificate.as_dict()}


class Experiment(Closed):
    """One data set × variants × seeds × attacks × certificates."""

    dataset: Dataset = Field(description="the images")
    seeds: tuple[Seed, ...] = Field((0, 1, 2), strict=False, min_length=1, description="one training each")
    training: Training = Field(
        default_factory=lambda: Training.model_validate({}), description="how every variant is trained"
    )
    variants: dict[Name, Variant] = Field(min_length=1, description="the rows of the ablation, in the figures' order")
    attacks: dict[Name, Attack] = Field({}, description="the columns of the results")
    certificates: dict[Name, Certificate] = Field({}, description="lower bounds, checked against every attack")
    samples: PositiveInt | None = Field(None, description="attack and certify only the first so many test images")
    examples: NonNegativeInt = Field(32, description="adversarial images kept per cell")
    allow_missing: bool = Field(
        False, description="aggregate without the cells that are missing or stale, and say so in tables and figures"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if len(set(self.seeds)) != len(self.seeds):
            problems.append((("seeds",), "a seed is given twice"))
        for name, certificate in self.certificates.items():
            if not any(certificate.applies_to(variant) for variant in self.variants.values()):
                needs = CERTIFICATES.entry(certificate.certificate.name).tags["needs"]
                problems.append(
                    (("certificates", name), f"no variant has a {needs} network, so nothing can be certified")
                )
        for name in sorted(set(self.attacks) & set(self.certificates)):
            problems.append((("certificates", name), "an attack has this name already"))
        refuse(problems)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Give everything the experiment says, defaults filled in, as plain values."""
        return {
            "dataset": self.dataset.as_dict(),
            "seeds": list(self.seeds),
            "samples": self.samples,
            "examples": self.examples,
            "variants": {
                name: {
                    "model": variant.model.as_dict(),
                    "loss": variant.loss.as_dict(),
                    "training": self.training_of(name).as_dict(),
                }
                for name, variant in self.variants.items()
            },
            "attacks": {name: attack.as_dict() for name, attack in self.attacks.items()},
            "certificates": {name: certificate.as_dict() for name, certificate in self.certificates.items()},
        }

    def training_of(self, variant: str) -> Training:
        """Merge the experiment's training with what a variant trains differently."""
        changes = self.variants[variant].training
        given = {name: getattr(changes, name) for name in changes.model_fields_set}
        return self.training.model_copy(update=given)


class Execution(Closed):
    """How and where work is done; nothing here decides a result, so nothing here makes one stale."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto takes a GPU where one is, else the CPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the passes an attack makes; every success is confirmed in float32"
    )
    attack_batch_size: PositiveInt | Literal["auto"] = Field("auto", description="images per attack batch")


class Config(Closed):
    """A configuration file."""

    experiments: dict[Name, Experiment] = Field(min_length=1, description="by name")
    execution: Execution = Field(Execution(), description="devices, batch sizes, precision")
    strict_environment: bool = Field(
        False, description="make everything again when the lock or an installed package that decides results changes"
    )
