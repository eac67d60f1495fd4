"""YAML text to and from plain values, for tests that write or edit configurations."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def parse_yaml(text: str) -> Any:
    """Return the values that a text holds."""
    return YAML(typ="safe", pure=True).load(text)


def dump_yaml(value: Any) -> str:
    """Return values as block-style text, in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
