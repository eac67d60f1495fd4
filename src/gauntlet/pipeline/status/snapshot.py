"""Files and queue of a run at one moment, as `gauntlet status --watch` shows them: variants against stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gauntlet.pipeline.cluster.queue import Job
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.status.cell_status import CellState, CellStatus
from gauntlet.pipeline.status.formatting import STATE_COLORS, align_columns, count_cells, format_duration
from gauntlet.pipeline.status.run_status import RunStatus

QUEUED = "queued"
_LABELS = (*(state.value for state in CellState if state is not CellState.DONE), QUEUED)
_STYLES = {**{state.value: color for state, color in STATE_COLORS.items()}, QUEUED: "blue"}
_LISTED = 5
_GAP = 2


@dataclass(frozen=True)
class QueuedCell:
    """Status of a cell and its jobs in the queue; the cell is queued while it has jobs and none of them runs."""

    status: CellStatus
    jobs: tuple[Job, ...] = ()

    @property
    def label(self) -> str:
        """The state in one word."""
        state = self.status.state
        is_waiting = self.jobs and state not in (CellState.DONE, CellState.RUNNING)
        return QUEUED if is_waiting else state.value

    def __str__(self) -> str:
        """Format the state and what the cell waits for or failed with, without its progress."""
        reason = ""
        if self.label == QUEUED:
            reason = ", ".join(dict.fromkeys(map(str, self.jobs)))
        elif self.status.state is CellState.FAILED:
            reason = self.status.last_line
        return f"{self.label}: {reason}" if reason else self.label

    @property
    def left_s(self) -> float | None:
        """Expected seconds until the cell is done, without waiting; None if unknown."""
        return self.status.cost_s if self.status.left_s is None else self.status.left_s


@dataclass(frozen=True)
class Snapshot:
    """Status of all cells; `group_jobs` are jobs of several cells, `problems` what could not be queried."""

    run: RunStatus
    cells: tuple[QueuedCell, ...]
    group_jobs: tuple[Job, ...] = ()
    problems: tuple[str, ...] = ()

    def labeled(self, label: str) -> list[QueuedCell]:
        """List the cells with a label."""
        return [cell for cell in self.cells if cell.label == label]


def as_text(snapshot: Snapshot) -> str:
    """Format a snapshot as plain text."""
    tables = (align_columns([[text for text, _ in row] for row in rows]) for rows in _tables(snapshot))
    return "\n\n".join([*tables, "\n".join(_lines(snapshot))])


def as_renderable(snapshot: Snapshot, width: int) -> RenderableType:
    """Format a snapshot for a terminal of `width` columns; the columns of a wider table continue below."""
    parts: list[RenderableType] = []
    for rows in _tables(snapshot):
        for block in _wrapped(rows, width):
            table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
            for number, (heading, _) in enumerate(block[0]):
                table.add_column(heading, justify="right" if number else "left", no_wrap=True)
            for row in block[1:]:
                table.add_row(*(Text(text, style=_STYLES.get(label, "")) for text, label in row))
            parts += [table, ""]
    return Group(*parts, *(Text(line) for line in _lines(snapshot)))


Entry = tuple[str, str]
"""A text and the label that colors it."""


def _tables(snapshot: Snapshot) -> Iterator[list[list[Entry]]]:
    """Yield a table per experiment: a row per variant, a column for training and for each stage or attack on it."""
    experiments: dict[str, dict[tuple[str, str], list[QueuedCell]]] = {}
    for queued in snapshot.cells:
        cell = queued.status.cell
        if cell.variant:
            entries = experiments.setdefault(cell.experiment, {})
            entries.setdefault((cell.variant, _column(cell)), []).append(queued)
    for experiment, entries in experiments.items():
        variants, columns = (dict.fromkeys(key[index] for key in entries) for index in (0, 1))
        yield [
            [(name, "") for name in (experiment, *columns)],
            *([(name, ""), *(_entry(entries.get((name, column), [])) for column in columns)] for name in variants),
        ]


def _column(cell: Cell) -> str:
    return cell.name or cell.stage.name


def _entry(cells: Sequence[QueuedCell]) -> Entry:
    """Summarize the cells of all seeds: their common state, or the number in each state."""
    if not cells:
        return "–", ""
    counts = Counter(cell.label for cell in cells)
    done = counts.pop(CellState.DONE.value, 0)
    if not counts:
        return "done", "done"
    is_common = len(counts) == 1 and not done
    parts = [label if is_common else f"{counts[label]} {label}" for label in _LABELS if counts[label]]
    running = [cell.status for cell in cells if cell.label == CellState.RUNNING.value]
    shares = [status.share for status in running if status.share is not None]
    if shares:
        parts.append(f"{100 * sum(shares) / len(running):.0f} %")
        if known := [status.left_s for status in running if status.left_s is not None]:
            parts.append(format_duration(max(known)))
    states = ", ".join(parts)
    by_urgency = (CellState.FAILED.value, CellState.RUNNING.value, QUEUED, *_LABELS)
    most_urgent = next(label for label in by_urgency if counts[label])
    return f"{done}/{len(cells)} done, {states}" if done else states, most_urgent


def _wrapped(rows: list[list[Entry]], width: int) -> Iterator[list[list[Entry]]]:
    """Split a table into blocks of columns that fit, each with the first column in front."""
    widths = [max(len(row[number][0]) for row in rows) + _GAP for number in range(len(rows[0]))]
    start = 1
    while start < len(widths):
        end = start + 1
        while end < len(widths) and widths[0] + sum(widths[start : end + 1]) <= width:
            end += 1
        yield [[row[0], *row[start:end]] for row in rows]
        start = end


def _lines(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines below the tables: totals, work left, queue, failures, controller, problems."""
    done = len(snapshot.labeled(CellState.DONE.value))
    counts = [f"{len(cells)} {label}" for label in _LABELS if (cells := snapshot.labeled(label))]
    yield ", ".join([f"{done} of {count_cells(len(snapshot.cells))} done", *counts])
    yield from _work_left(snapshot)
    reasons = Counter(job for cell in snapshot.labeled(QUEUED) for job in map(str, cell.jobs))
    if reasons:
        yield "queue: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    groups = Counter(f"{job.comment.removeprefix('rule_')} {job}" for job in snapshot.group_jobs)
    if groups:
        yield "group jobs: " + ", ".join(f"{count} {job}" for job, count in groups.most_common(_LISTED))
    failed = snapshot.labeled(CellState.FAILED.value)
    yield from (f"failed: {cell.status.cell}: {cell.status.last_line}" for cell in failed[:_LISTED])
    if len(failed) > _LISTED:
        yield f"failed: {count_cells(len(failed) - _LISTED)} more; `gauntlet status` lists them"
    controller = snapshot.run.controller
    yield "no controller is running" if controller is None else f"controller: {controller}"
    yield from snapshot.problems


def _work_left(snapshot: Snapshot) -> Iterator[str]:
    unfinished = [cell for cell in snapshot.cells if cell.label != CellState.DONE.value]
    known = [cell.left_s for cell in unfinished if cell.left_s is not None]
    if known:
        running = len(snapshot.labeled(CellState.RUNNING.value))
        parallel = f", {format_duration(sum(known) / running)} with {running} at a time as now" if running > 1 else ""
        unknown_count = len(unfinished) - len(known)
        unknown = f"; unknown for {count_cells(unknown_count)}" if unknown_count else ""
        yield f"work left: {format_duration(sum(known))}{parallel}{unknown}"
