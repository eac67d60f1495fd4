"""Text of durations, costs, counts and columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gauntlet.pipeline.status.cell_status import CellState, CellStatus, work_left

STATE_COLORS = {
    CellState.DONE: "green",
    CellState.RUNNING: "cyan",
    CellState.FAILED: "red",
    CellState.STALE: "yellow",
    CellState.MISSING: "magenta",
}


def format_duration(seconds: float) -> str:
    """Format a duration in hours from 0.1 h, else in minutes or seconds."""
    if seconds >= 360:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def format_work_left(statuses: Iterable[CellStatus]) -> str:
    """Format the expected duration of the cells that are not done, and the number of unknown ones."""
    seconds, unknown_count = work_left(statuses)
    unknown = f"{unknown_count} unknown" if unknown_count else ""
    known = format_duration(seconds) if seconds or not unknown else ""
    return " + ".join(part for part in (known, unknown) if part)


def count_cells(cells: int) -> str:
    """Format a number of cells."""
    return "1 cell" if cells == 1 else f"{cells} cells"


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of equal length as columns, the first aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([entry.rjust(width) for entry, width in zip(row, widths, strict=True)] for row in rows)
    lines = (f"{row[0].ljust(widths[0])}  {'  '.join(entries[1:])}" for row, entries in zip(rows, padded, strict=True))
    return "\n".join(line.rstrip() for line in lines)
