"""One registry per kind of component, and the parts of networks, which are components too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.registry.adapters import Adapter, foolbox_names, foolbox_options, foolbox_tags
from gauntlet.registry.libraries import builder_names, builder_options, builder_tags, find_builder
from gauntlet.registry.registry import Registry, Spec
from gauntlet.registry.torch_optim import optimizer_names, optimizer_options, optimizer_tags

SOURCES = Registry("data source", "SOURCES", "gauntlet.learning.data.sources", reserved=set())
AUGMENTATIONS = Registry(
    "augmentation", "AUGMENTATIONS", "gauntlet.learning.data.augmentations", reserved={"images", "generator"}
)
MIXINGS = Registry("mixing", "MIXINGS", "gauntlet.learning.data.mixings", reserved={"images", "generator"})
NEGATIVES = Registry("negative", "NEGATIVES", "gauntlet.learning.data.negatives", reserved=set())
MODELS = Registry(
    "model",
    "MODELS",
    "gauntlet.learning.models",
    reserved={"image_shape", "num_classes", "in_channels", "mean", "std"},
    adapters={
        library: Adapter(
            f"{library}.models",
            f"gauntlet.learning.models.adapters.{library}",
            builder_tags,
            builder_options,
            find_builder,
            builder_names,
        )
        for library in ("torchvision", "timm")
    },
)
HEADS = Registry(
    "head", "HEADS", "gauntlet.learning.models", reserved={"in_features", "num_classes", "layer", "activation"}
)
ACTIVATIONS = Registry("activation", "ACTIVATIONS", "gauntlet.learning.models", reserved=set())
UNITS = Registry("unit", "UNITS", "gauntlet.learning.models", reserved=set())
FOLDINGS = Registry("folding", "FOLDINGS", "gauntlet.learning.models", reserved=set())
LOSSES = Registry("loss", "LOSSES", "gauntlet.learning.losses", reserved={"network", "outputs", "labels"})
OPTIMIZERS = Registry(
    "optimizer",
    "OPTIMIZERS",
    "gauntlet.learning.training",
    reserved={"parameters"},
    adapters={
        "torch.optim": Adapter(
            "torch.optim",
            "gauntlet.learning.training.adapters.torch_optim",
            optimizer_tags,
            optimizer_options,
            names=optimizer_names,
        )
    },
)
SCHEDULES = Registry("schedule", "SCHEDULES", "gauntlet.learning.training.schedules", reserved={"epoch", "epochs"})
REGULARIZERS = Registry("regularizer", "REGULARIZERS", "gauntlet.learning.training.regularizers", reserved=set())
ADVERSARIES = Registry("adversary", "ADVERSARIES", "gauntlet.learning.training", reserved=set())
ATTACKS = Registry(
    "attack",
    "ATTACKS",
    "gauntlet.robustness.attacks",
    reserved={"model", "x", "y", "norm", "epsilon", "keys"},
    adapters={
        "foolbox": Adapter(
            "foolbox.attacks",
            "gauntlet.robustness.attacks.adapters.foolbox",
            foolbox_tags,
            foolbox_options,
            names=foolbox_names,
        )
    },
)
CERTIFICATES = Registry(
    "certificate",
    "CERTIFICATES",
    "gauntlet.robustness.certificates",
    reserved={"network", "x", "y", "norm", "keys", "batch_size"},
)
FIGURES = Registry("figure", "FIGURES", "gauntlet.reporting.figures", reserved={"inputs", "style"})

REGISTRIES = tuple(value for value in list(globals().values()) if isinstance(value, Registry))
"""Every registry."""

PARTS: Mapping[str, tuple[Registry, str]] = MappingProxyType(
    {
        "head": (HEADS, "softmax"),
        "activation": (ACTIVATIONS, "relu"),
        "unit": (UNITS, "linear"),
        "folding": (FOLDINGS, "none"),
    }
)
"""Options of a model that name a component: its registry and default, for models whose tag `parts` lists the option."""


def default_normalization(model: str) -> str:
    """Return what the first layer of a network does unless it is configured: ``data``, or the network's tag."""
    return str(MODELS.entry(model).tags.get("normalize", "data"))


def complete_part(model: str, key: str, part: Any) -> Any:
    """Fill the options of a model's part for which the model has a default other than the part's own.

    `part` is a name or a mapping with one; anything else is returned as it is. A model's tag `part_options` holds its
    defaults, for example ``{"head": {"hidden": 0}}``; a part that has no such option is left alone.
    """
    mapping = {"name": part} if isinstance(part, str) else part
    defaults = MODELS.entry(model).tags.get("part_options", {}).get(key, {})
    if not defaults or not isinstance(mapping, Mapping) or not isinstance(mapping.get("name"), str):
        return part
    try:
        accepted = {option.name for option in PARTS[key][0].entry(mapping["name"]).options or ()}
    except InputError:
        return part
    return {**{option: value for option, value in defaults.items() if option in accepted}, **mapping}


def parts_of(model: Spec) -> list[tuple[Registry, Spec]]:
    """List the components that a model's options name, with their registries."""
    keys = MODELS.entry(model.name).tags.get("parts", ())
    parts = [(PARTS[key][0], dict(model.options[key])) for key in keys if key in model.options]
    return [(registry, Spec(str(options.pop("name")), options)) for registry, options in parts]


def part_of(model: Spec, registry: Registry) -> Spec | None:
    """Return the component of a registry that a model's options name; None if they name none."""
    return next((part for other, part in parts_of(model) if other is registry), None)
