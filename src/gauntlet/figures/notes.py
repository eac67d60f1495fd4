"""What a figure must say beside its lines: which numbers rest on missing cells or on errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MISSING, ERRORS = "*", "†"


def flagged(rows: Sequence[dict[str, Any]]) -> str:
    """Give the marks that a name carries when its summary rows leave something out."""
    return (MISSING if any(row["missing"] for row in rows) else "") + (
        ERRORS if any(row["errors"] for row in rows) else ""
    )


def flags_note(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Explain the marks in use."""
    marks = flagged(rows)
    parts = {MISSING: "* cells are missing: may be too high", ERRORS: "† samples with errors count as fooled"}
    return [text for mark, text in parts.items() if mark in marks]
