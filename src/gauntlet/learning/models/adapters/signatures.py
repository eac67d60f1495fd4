"""Parameters of the class that a function builds."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any


def constructor_parameters(builder: Callable[..., Any]) -> set[str]:
    """Return the names that the constructors of the class in a function's return annotation accept, bases included."""
    try:
        network = typing.get_type_hints(builder).get("return")
    except (NameError, TypeError):  # an annotation that only a type checker resolves
        network = None
    classes = inspect.getmro(network) if inspect.isclass(network) else ()
    constructors = [vars(cls)["__init__"] for cls in classes if inspect.isfunction(vars(cls).get("__init__"))]
    return {name for constructor in constructors for name in inspect.signature(constructor).parameters}
