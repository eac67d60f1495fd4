"""Changed copies of settings."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def replace(settings: Model, **changes: Any) -> Model:
    """Return a validated copy of a pydantic model with some fields changed."""
    return settings.model_validate({**dict(settings), **changes})
