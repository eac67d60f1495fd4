"""Gauntlet: one configuration file in; models, attacks, certificates, statistics, figures, report out."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gauntlet.api import evaluate
    from gauntlet.learning.models.weights import load_model

__all__ = ["evaluate", "load_model"]
__version__ = version("gauntlet")


def __getattr__(name: str) -> Any:
    """Load the library functions when they are first used, so that `import gauntlet` loads no torch."""
    if name == "evaluate":
        from gauntlet.api import evaluate

        return evaluate
    if name == "load_model":
        from gauntlet.learning.models.weights import load_model

        return load_model
    raise AttributeError(f"module 'gauntlet' has no attribute '{name}'")
