"""What must be said beside numbers: which rest on missing cells, on errors, or on masked gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MISSING, ERRORS, MASKED = "*", "†", "‡"
_TOLD = {MISSING: "missing", ERRORS: "errors", MASKED: "flags"}


def flagged(rows: Sequence[dict[str, Any]]) -> str:
    """Give the marks that a name carries when its summary rows leave something out or are in doubt."""
    return "".join(mark for mark, column in _TOLD.items() if any(row.get(column) for row in rows))


def flags_note(
    rows: Sequence[dict[str, Any]], *, missing: str = "cells are missing: may be too high", doubt: str = "too high"
) -> list[str]:
    """Explain the marks in use, and say where no mark may mean that nobody looked.

    `missing` says what missing cells mean for what is drawn, `doubt` what masked gradients may make of it: robust
    accuracy too high, failures too low.
    """
    marks = flagged(rows)
    parts = {
        MISSING: f"{MISSING} {missing}",
        ERRORS: "† samples with errors count as fooled",
        MASKED: f"{MASKED} gradients look masked: may be {doubt}",
    }
    undiagnosed = any(row.get(_TOLD[MASKED], "") is None for row in rows)
    unknown = ["not diagnosed: gradients may be masked"] if undiagnosed else []
    return [*(text for mark, text in parts.items() if mark in marks), *unknown]
