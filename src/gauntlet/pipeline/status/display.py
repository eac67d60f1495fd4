"""Text of `gauntlet status` and `gauntlet predict`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.status.cell_status import CellState, CellStatus
from gauntlet.pipeline.status.changes import ABSENT
from gauntlet.pipeline.status.formatting import (
    STATE_COLORS,
    align_columns,
    count_cells,
    format_duration,
    format_work_left,
)
from gauntlet.pipeline.status.predictions import Prediction
from gauntlet.pipeline.status.run_status import RunStatus

_LISTED_STATES = (CellState.FAILED, CellState.RUNNING, CellState.STALE, CellState.MISSING)
_LISTED_CELLS = 4
_HEADINGS = ("stage", *(state.value for state in CellState), "work left")


def print_status(run: RunStatus, console: Console, *, every: bool = False) -> None:
    """Print counts per stage, then the cells of each state grouped by reason; `every` lists every cell."""
    if console.is_terminal:
        console.print(_rich_table(run))
    else:
        console.print(align_columns([_HEADINGS, *_rows(run)]), markup=False, highlight=False, soft_wrap=True)
    for line in _lines(run, limit=None if every else _LISTED_CELLS):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def format_predictions(predictions: Mapping[Cell, Prediction | None], *, done: int) -> str:
    """Format predicted durations, one line per cell, and their sum; `done` cells were not tried."""
    rows = [
        (
            str(cell),
            format_duration(prediction.seconds),
            f"{prediction.tried} of {prediction.samples} samples tried, {prediction.device}",
        )
        if prediction
        else (str(cell), "–", "not tried")
        for cell, prediction in predictions.items()
    ]
    tried = [prediction for prediction in predictions.values() if prediction]
    startup_s = sum(prediction.start_seconds for prediction in tried)
    startup = f"and {format_duration(startup_s)} for starting {len(tried)} processes"
    rows.append(("all", format_duration(sum(prediction.seconds for prediction in tried)), startup))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    table = [f"{name.ljust(widths[0])}  {seconds.rjust(widths[1])}  {details}" for name, seconds, details in rows]
    return "\n".join([*table, *([f"{count_cells(done)} done already"] if done else [])])


def _rows(run: RunStatus) -> Iterator[tuple[str, ...]]:
    for name, statuses in {**run.by_stage(), "all": list(run.cells)}.items():
        states = [status.state for status in statuses]
        yield name, *(str(states.count(state) or "") for state in CellState), format_work_left(statuses)


def _rich_table(run: RunStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(_HEADINGS[0])
    for state in CellState:
        table.add_column(state.value, justify="right", style=STATE_COLORS[state])
    table.add_column(_HEADINGS[-1], justify="right")
    for row in _rows(run):
        table.add_row(*row, style="bold" if row[0] == "all" else None)
    return table


def _lines(run: RunStatus, limit: int | None) -> Iterator[str]:
    for state in _LISTED_STATES:
        statuses = run.in_state(state)
        if statuses:
            yield f"\n{state.value}: {count_cells(len(statuses))}, work left: {format_work_left(statuses)}"
            yield from _grouped(statuses, limit)
    if not run.in_state(*_LISTED_STATES):
        yield "\nnothing to be done"
    for other in run.environments:
        packages = ", ".join(f"{c.name} {_text(c.before)} (now {_text(c.after)})" for c in other.changes)
        yield f"\nenvironment: {count_cells(other.cells)} done with {packages or 'another lock or other versions'}"
    for experiment, count in run.left_out.items():
        yield f"\n{experiment}: allow_missing is set; aggregation now leaves out {count_cells(count)}"
    if run.controller is not None:
        yield f"\ncontroller: {run.controller}"


def _grouped(statuses: list[CellStatus], limit: int | None) -> Iterator[str]:
    """Yield each combination of reasons once, followed by its cells."""
    groups: dict[tuple[str, ...], list[CellStatus]] = {}
    for status in statuses:
        groups.setdefault(tuple(_reasons(status)), []).append(status)
    for reasons, members in groups.items():
        yield ""
        yield from (f"  {reason}" for reason in reasons or ("no result yet",))
        listed = members if limit is None or len(members) <= limit + 1 else members[:limit]
        yield from (f"    {status.cell}" for status in listed)
        if len(listed) < len(members):
            yield f"    and {len(members) - len(listed)} more"


def _reasons(status: CellStatus) -> Iterator[str]:
    if status.last_line:
        yield status.last_line
    if status.missing_files and len(status.missing_files) < len(status.cell.outputs):
        yield f"missing {', '.join(path.name for path in status.missing_files)}"
    yield from (str(change) for change in status.changes if change.kind not in ("waits", "code"))
    modules_by_verb: dict[str, list[str]] = {}
    for change in status.changes:
        if change.kind == "code":
            modules_by_verb.setdefault(change.verb, []).append(change.name)
    for verb, modules in modules_by_verb.items():
        yield f"code {verb}: {', '.join(modules)}"
    waits = [change for change in status.changes if change.kind == "waits"]
    if len(waits) == 1:
        yield str(waits[0])
    elif waits:
        stages = [change.name.partition(" ")[0] for change in waits]
        counts = ", ".join(f"{stages.count(stage)} {stage}" for stage in dict.fromkeys(stages))
        yield f"waits for {counts}"


def _text(value: object) -> str:
    return "none" if value is ABSENT else str(value)
