"""Puts into a wheel what `gauntlet init` and `gauntlet run` need where there is no checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("config.yaml", "workflow", "rules", "profiles", "envs")


class CheckoutHook(BuildHookInterface):
    """Copies files of the checkout into the package, but not for an editable installation, which has the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to those of a standard wheel."""
        if version == "standard":
            build_data["force_include"] |= {name: f"gauntlet/pipeline/checkout/{name}" for name in FILES}
