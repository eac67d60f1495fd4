"""Modules of the components that a configuration names, for the recipes of cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from gauntlet.config.schema import Experiment
from gauntlet.config.variants import Variant
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope
from gauntlet.pipeline.stages.train.chosen import chosen_variant
from gauntlet.registry import MODELS, Registry, Spec, default_normalization, parts_of

NETWORK = "network"
"""Key of the network's settings in a slice."""


def modules_of(components: Iterable[tuple[Registry, Spec | None]]) -> list[str]:
    """List the modules that define or name components; for one of another library, the adapter's.

    None is no component.
    """
    return [module for registry, spec in components if spec is not None for module in _modules(registry, spec)]


def networks_of(model: Cell, scope: Scope, files: Files) -> tuple[str, ...]:
    """List the variants whose code the cells on a model depend on: the model's own variant, or the chosen one.

    While nothing is chosen these are all candidates. Once it is, the others' code decides no more than the choice.
    """
    networks = scope.settings.possible_networks(model.variant)
    if model.variant in networks:
        return (model.variant,)
    chosen = chosen_variant(files.manifest(paths.model_manifest(model)))
    return (chosen,) if chosen in networks else tuple(networks)


def network_modules(scope: Scope, variant: str) -> list[str]:
    """List the modules that define a variant's network and its parts."""
    model = scope.settings.networks[variant].model
    return scope.once(("network", variant), lambda: modules_of([(MODELS, model), *parts_of(model)]))


def model_modules(model: Cell, scope: Scope, files: Files) -> list[str]:
    """List the modules that define the network of a model and its parts, see `networks_of`."""
    return [module for variant in networks_of(model, scope, files) for module in network_modules(scope, variant)]


def network_slice(model: Cell, scope: Scope, files: Files) -> dict[str, Any]:
    """Return what the configuration says of a model's network, from which its weights do not follow.

    The weights decide neither an option that acts in evaluation alone, such as that of a decoder, nor any option of an
    adopted network. Empty for a network with all defaults, and while none of several candidates is chosen: then its
    cells have no recipe yet.
    """
    networks = networks_of(model, scope, files)
    if len(networks) > 1:
        return {}
    settings = scope.once(("network slice", networks[0]), lambda: _settings(scope, networks[0]))
    return {NETWORK: settings} if settings else {}


def _settings(scope: Scope, variant: str) -> dict[str, Any]:
    network = scope.settings.networks[variant]
    settings, name = network.as_dict(), network.model.name
    try:
        defaults: Mapping[str, Any] = Variant.model_validate({"model": name}).as_dict()
    except ValidationError:  # an option is required
        defaults = {"normalize": default_normalization(name)}
    return {key: settings[key] for key in ("model", "normalize") if settings[key] != defaults.get(key)}


def network_path(cell: Cell, path: tuple[str, ...], _settings: Experiment | None = None) -> tuple[str, ...]:
    """Spell a key of `network_slice` as the path in the configuration; others are paths already."""
    return ("variants", cell.variant, *path[1:]) if path[0] == NETWORK else path


def _modules(registry: Registry, spec: Spec) -> tuple[str, ...]:
    prefix = spec.name.partition(":")[0]
    return (registry.adapters[prefix].module,) if prefix in registry.adapters else registry.entry(spec.name).modules
