"""Budgets of attacks in the metadata of their rows: a row has a budget only where it was fooled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

BUDGETS_KEY = "gauntlet.budgets"


def budgets_metadata(budgets: Mapping[str, Sequence[float] | None]) -> dict[str, str]:
    """Return the metadata entry for the budgets of attacks by name, None for a minimum-norm attack."""
    return {
        BUDGETS_KEY: json.dumps({name: None if values is None else list(values) for name, values in budgets.items()})
    }


def budgets_from_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Sequence[float] | None]:
    """Read the budgets of attacks by name; empty where there are none."""
    entry = (metadata or {}).get(BUDGETS_KEY.encode())
    return {} if entry is None else dict(json.loads(entry))
