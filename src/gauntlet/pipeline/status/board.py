"""What `gauntlet status --watch` shows: variants against what each is put through, and what is to be said below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gauntlet.config.grid import Cell
from gauntlet.pipeline.cluster.queue import Job
from gauntlet.pipeline.status.cell_states import CellStatus, Progress, Survey
from gauntlet.pipeline.status.rendering import COLOURS, aligned, counted, duration

QUEUED = "queued"
_WORDS = (*(state.value for state in Progress if state is not Progress.DONE), QUEUED)
_STYLES = {**{state.value: colour for state, colour in COLOURS.items()}, QUEUED: "blue"}
_NAMED = 5
_GAP = 2


@dataclass(frozen=True)
class Standing:
    """Where a cell stands in files and queue. A cell is queued while its jobs, at least one, all wait."""

    status: CellStatus
    jobs: tuple[Job, ...] = ()

    @property
    def word(self) -> str:
        """The state as one word."""
        progress = self.status.progress
        waits = self.jobs and progress not in (Progress.DONE, Progress.RUNNING)
        return QUEUED if waits else progress.value

    def __str__(self) -> str:
        """Say the state with what it waits for or what it failed of, without what changes all the time."""
        why = ""
        if self.word == QUEUED:
            why = ", ".join(dict.fromkeys(map(str, self.jobs)))
        elif self.status.progress is Progress.FAILED:
            why = self.status.last_line
        return f"{self.word}: {why}" if why else self.word

    @property
    def left_s(self) -> float | None:
        """How long making it still takes; None if unknown."""
        return self.status.cost_s if self.status.left_s is None else self.status.left_s


@dataclass(frozen=True)
class Board:
    """Everything at one moment; `others` are jobs of several cells, `problems` what could not be found out."""

    survey: Survey
    standings: tuple[Standing, ...]
    others: tuple[Job, ...] = ()
    problems: tuple[str, ...] = ()

    def having(self, word: str) -> list[Standing]:
        """List the cells in a state."""
        return [standing for standing in self.standings if standing.word == word]


def plain(board: Board) -> str:
    """Write a board as text."""
    tables = (aligned([[text for text, _ in row] for row in rows]) for rows in _tables(board))
    return "\n\n".join([*tables, "\n".join(_lines(board))])


def coloured(board: Board, width: int) -> RenderableType:
    """Draw a board for a terminal of so many columns; a table that is wider is continued below."""
    parts: list[RenderableType] = []
    for rows in _tables(board):
        for block in _folded(rows, width):
            table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
            for number, (heading, _) in enumerate(block[0]):
                table.add_column(heading, justify="right" if number else "left", no_wrap=True)
            for row in block[1:]:
                table.add_row(*(Text(text, style=_STYLES.get(word, "")) for text, word in row))
            parts += [table, ""]
    return Group(*parts, *(Text(line) for line in _lines(board)))


Entry = tuple[str, str]
"""A text, and the state that colours it."""


def _tables(board: Board) -> Iterator[list[list[Entry]]]:
    """Give per experiment a row per variant and a column for its training and each thing it is put through."""
    entries: dict[str, dict[tuple[str, str], list[Standing]]] = {}
    for standing in board.standings:
        cell = standing.status.cell
        if cell.variant:
            entries.setdefault(cell.experiment, {}).setdefault((cell.variant, _column(cell)), []).append(standing)
    for experiment, table in entries.items():
        variants, columns = (dict.fromkeys(key[place] for key in table) for place in (0, 1))
        yield [
            [(name, "") for name in (experiment, *columns)],
            *([(one, ""), *(_entry(table.get((one, column), [])) for column in columns)] for one in variants),
        ]


def _column(cell: Cell) -> str:
    return cell.name or cell.stage


def _entry(standings: Sequence[Standing]) -> Entry:
    """Summarise a cell of all seeds: its state where they share one, else how many are done, and the others."""
    if not standings:
        return "–", ""
    counts = Counter(standing.word for standing in standings)
    done = counts.pop(Progress.DONE.value, 0)
    if not counts:
        return "done", "done"
    alone = len(counts) == 1 and not done
    parts = [word if alone else f"{counts[word]} {word}" for word in _WORDS if counts[word]]
    running = [one.status for one in standings if one.word == Progress.RUNNING.value]
    shares = [status.share for status in running if status.share is not None]
    if shares:
        parts.append(f"{100 * sum(shares) / len(running):.0f} %")
        parts.append(duration(max(status.left_s or 0.0 for status in running)))
    states = ", ".join(parts)
    worst = next(word for word in (Progress.FAILED.value, Progress.RUNNING.value, QUEUED, *_WORDS) if counts[word])
    return f"{done}/{len(standings)} done, {states}" if done else states, worst


def _folded(rows: list[list[Entry]], width: int) -> Iterator[list[list[Entry]]]:
    """Cut a table into blocks of columns that fit, each with the first column before it."""
    widths = [max(len(row[number][0]) for row in rows) + _GAP for number in range(len(rows[0]))]
    start = 1
    while start < len(widths):
        end = start + 1
        while end < len(widths) and widths[0] + sum(widths[start : end + 1]) <= width:
            end += 1
        yield [[row[0], *row[start:end]] for row in rows]
        start = end


def _lines(board: Board) -> Iterator[str]:
    """Say what stands below the tables: totals, the rest's time, the queue, what failed and why."""
    done = len(board.having(Progress.DONE.value))
    counts = [f"{len(found)} {word}" for word in _WORDS if (found := board.having(word))]
    yield ", ".join([f"{done} of {counted(len(board.standings))} done", *counts])
    yield from _rest(board)
    reasons = Counter(job for standing in board.having(QUEUED) for job in map(str, standing.jobs))
    if reasons:
        yield "queue: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    groups = Counter(f"{job.comment.removeprefix('rule_')} {job}" for job in board.others)
    if groups:
        yield "jobs of several cells: " + ", ".join(f"{count} {job}" for job, count in groups.most_common(_NAMED))
    failed = board.having(Progress.FAILED.value)
    yield from (f"failed: {one.status.cell}: {one.status.last_line}" for one in failed[:_NAMED])
    if len(failed) > _NAMED:
        yield f"failed: {counted(len(failed) - _NAMED)} more; `gauntlet status` names them"
    controller = board.survey.controller
    yield "no run is going on" if controller is None else f"a run is going on: {controller}"
    yield from board.problems


def _rest(board: Board) -> Iterator[str]:
    rest = [one for one in board.standings if one.word != Progress.DONE.value]
    known = [one.left_s for one in rest if one.left_s is not None]
    if known:
        at_once = len(board.having(Progress.RUNNING.value))
        clock = f", {duration(sum(known) / at_once)} with {at_once} at a time as now" if at_once > 1 else ""
        unknown = f"; of {counted(len(rest) - len(known))} it is unknown" if len(known) < len(rest) else ""
        yield f"left: {duration(sum(known))} of work{clock}{unknown}"
