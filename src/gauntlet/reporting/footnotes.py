"""Marks and footnotes of numbers that rest on missing cells, on errors or on masked gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.robustness.diagnostics.checks import CHECKS

MISSING, ERRORS, MASKED = "*", "†", "‡"
_COLUMNS = {MISSING: "missing", ERRORS: "errors", MASKED: "flags"}


def footnote_marks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the marks of a number or name that rests on these summary rows."""
    return "".join(mark for mark, column in _COLUMNS.items() if any(row.get(column) for row in rows))


def footnotes(
    rows: Sequence[Mapping[str, Any]], *, missing: str = "cells are missing: may be too high", doubt: str = "too high"
) -> list[str]:
    """Return a footnote for each mark in use, and one where models were not diagnosed.

    `missing` is the footnote of missing cells, `doubt` what masked gradients may make of the number: robust accuracy
    too high, failures too low.
    """
    texts = {
        MISSING: f"{MISSING} {missing}",
        ERRORS: f"{ERRORS} samples with errors count as fooled",
        MASKED: f"{MASKED} {'; '.join(_reasons(rows))}: may be {doubt}",
    }
    undiagnosed = any(row.get(_COLUMNS[MASKED], "") is None for row in rows)
    return [
        *(texts[mark] for mark in footnote_marks(rows)),
        *(["not diagnosed: gradients may be masked"] if undiagnosed else []),
    ]


def missing_note(count: int, consequence: str) -> str:
    """Return a figure's note on missing cells and what it makes of its numbers; empty without any."""
    cells = "1 cell of an attack is" if count == 1 else f"{count} cells of attacks are"
    return f"{cells} missing: {consequence}" if count else ""


def exclusion_note(attack: str, reason: str) -> str:
    """Return the note of an attack, by its printed name, that has no part in the worst case."""
    return f"{attack}: {reason}; not in the worst case"


def clean_note(samples: int | None) -> str:
    """Return the note of clean accuracy that is measured on the first `samples` only; empty for all, None."""
    return "" if samples is None else f"clean: on the first {samples} samples only"


def single_loss_note(norm: str, loss: str) -> str:
    """Return the note of a norm in whose worst case all attacks along gradients ascend the same loss."""
    attacks = f"{NORM_TEXT.get(norm, norm)}: all attacks along gradients in the worst case"
    return f"{attacks} ascend one loss, {loss.replace('_', ' ')}; others may fool more."


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the failed checks of these rows mean, each once, in the order of the checks."""
    failed = {check for row in rows for check in (row.get(_COLUMNS[MASKED]) or "").split(", ")}
    return list(dict.fromkeys(check.flag for name, check in CHECKS.items() if name in failed)) or ["a check fails"]
