"""Modules of the components that a configuration names, for the recipes of cells."""

from __future__ import annotations

from collections.abc import Iterable

from gauntlet.pipeline.stage import Scope
from gauntlet.registry import MODELS, Registry, Spec, parts_of


def modules_of(components: Iterable[tuple[Registry, Spec | None]]) -> list[str]:
    """List the modules that define components; for one of another library, the adapter's. None is no component."""
    return [_module(registry, spec) for registry, spec in components if spec is not None]


def network_modules(scope: Scope, variant: str) -> list[str]:
    """List the modules that define a variant's network and its parts."""
    model = scope.settings.variants[variant].model
    return scope.once(("network", variant), lambda: modules_of([(MODELS, model), *parts_of(model)]))


def _module(registry: Registry, spec: Spec) -> str:
    prefix = spec.name.partition(":")[0]
    return registry.adapters[prefix].module if prefix in registry.adapters else registry.entry(spec.name).module
