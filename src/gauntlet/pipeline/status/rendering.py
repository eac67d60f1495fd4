"""A survey as a user reads it, on a terminal or in a file, and as a program does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gauntlet.config.grid import Cell
from gauntlet.pipeline import paths
from gauntlet.pipeline.status.cell_states import CellStatus, Progress, Survey
from gauntlet.pipeline.status.changes import ABSENT, Change
from gauntlet.pipeline.status.predictions import Prediction

FORMAT = 1

_TITLES = {
    Progress.FAILED: "failed",
    Progress.RUNNING: "running",
    Progress.STALE: "stale",
    Progress.MISSING: "missing",
}
COLOURS = {
    Progress.DONE: "green",
    Progress.RUNNING: "cyan",
    Progress.FAILED: "red",
    Progress.STALE: "yellow",
    Progress.MISSING: "magenta",
}


def show(survey: Survey, console: Console, *, every: bool = False) -> None:
    """Print a survey: counts per stage, then each state's cells grouped by reason. `every` names every cell."""
    if console.is_terminal:
        console.print(_rich_table(survey))
    else:
        console.print(aligned([_HEADINGS, *_rows(survey)]), markup=False, highlight=False, soft_wrap=True)
    for line in _lines(survey, most=None if every else 4):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def as_dict(survey: Survey) -> dict[str, Any]:
    """Give the plain values that `--json` prints; docs/status.md describes them."""
    holder = survey.controller
    return {
        "format": FORMAT,
        "cells": [_cell(status) for status in survey.cells],
        "stages": [
            {"stage": stage, **{state.value: counts[state] for state in Progress}, **_cost(statuses)}
            for stage, counts, statuses in _stages(survey)
        ],
        "total": {**{state.value: len(survey.having(state)) for state in Progress}, **_cost(survey.cells)},
        "environments": [
            {"cells": other.cells, "changes": [_change(change) for change in other.changes]}
            for other in survey.environments
        ],
        "left_out": dict(survey.left_out),
        "controller": None if holder is None else {name: getattr(holder, name) for name in _HOLDER},
    }


_HOLDER = ("host", "pid", "user", "started", "command")


def duration(seconds: float) -> str:
    """Write a duration: hours as soon as there is one to speak of."""
    if seconds >= 360:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def predictions_table(predictions: Mapping[Cell, Prediction | None], *, done: int) -> str:
    """Write what trials predicted, one line a cell, and the sum; `done` cells were not tried."""
    lines = [
        (str(cell), duration(told.seconds), f"{told.tried} of {told.samples} samples tried, {told.device}")
        if told
        else (str(cell), "–", "not tried")
        for cell, told in predictions.items()
    ]
    known = [told for told in predictions.values() if told]
    starts = f"and {duration(sum(told.start_seconds for told in known))} for starting {len(known)} processes"
    lines.append(("all", duration(sum(told.seconds for told in known)), starts))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    table = [f"{name.ljust(widths[0])}  {seconds.rjust(widths[1])}  {rest}" for name, seconds, rest in lines]
    return "\n".join([*table, *([f"{counted(done)} done already"] if done else [])])


def cost_text(statuses: Iterable[CellStatus]) -> str:
    """Write what making cells takes, the unknown named as unknown."""
    cost = _cost(statuses)
    unknown = f"{cost['cost_unknown']} unknown" if cost["cost_unknown"] else ""
    known = duration(cost["cost_s"]) if cost["cost_s"] or not unknown else ""
    return " + ".join(part for part in (known, unknown) if part)


def _stages(survey: Survey) -> Iterator[tuple[str, dict[Progress, int], list[CellStatus]]]:
    by_stage: dict[str, list[CellStatus]] = {}
    for status in survey.cells:
        by_stage.setdefault(status.cell.stage, []).append(status)
    for stage, statuses in by_stage.items():
        found = [status.progress for status in statuses]
        yield stage, {state: found.count(state) for state in Progress}, statuses


def _rows(survey: Survey) -> Iterator[tuple[str, ...]]:
    for stage, counts, statuses in _stages(survey):
        yield stage, *(str(counts[state] or "") for state in Progress), cost_text(_unfinished(statuses)) or "0 s"
    totals = [str(len(survey.having(state)) or "") for state in Progress]
    yield "all", *totals, cost_text(_unfinished(survey.cells)) or "0 s"


_HEADINGS = ("stage", *(state.value for state in Progress), "to make")


def _rich_table(survey: Survey) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(_HEADINGS[0])
    for state in Progress:
        table.add_column(state.value, justify="right", style=COLOURS[state])
    table.add_column(_HEADINGS[-1], justify="right")
    for row in _rows(survey):
        table.add_row(*row, style="bold" if row[0] == "all" else None)
    return table


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of equal length as columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    lines = (f"{row[0].ljust(widths[0])}  {'  '.join(cells[1:])}" for row, cells in zip(rows, padded, strict=True))
    return "\n".join(line.rstrip() for line in lines)


def _lines(survey: Survey, most: int | None) -> Iterator[str]:
    for state, title in _TITLES.items():
        statuses = survey.having(state)
        if statuses:
            yield f"\n{title}: {counted(len(statuses))}, to make: {cost_text(statuses)}"
            yield from _grouped(statuses, most)
    if not survey.having(*_TITLES):
        yield "\nnothing to be done"
    for other in survey.environments:
        how = ", ".join(f"{c.name} {_text(c.before)} (now {_text(c.after)})" for c in other.changes)
        yield f"\nenvironment: {counted(other.cells)} done, but made with {how or 'another lock or other versions'}"
    for experiment, count in survey.left_out.items():
        yield f"\n{experiment}: allow_missing is set: as things stand, aggregation does without {counted(count)}"
    if survey.controller is not None:
        yield f"\na run is going on: {survey.controller}"


def _grouped(statuses: list[CellStatus], most: int | None) -> Iterator[str]:
    """Say each reason once, with the cells that it holds for."""
    groups: dict[tuple[str, ...], list[CellStatus]] = {}
    for status in statuses:
        groups.setdefault(tuple(_reasons(status)), []).append(status)
    for reasons, members in groups.items():
        yield ""
        yield from (f"  {reason}" for reason in reasons or ("nothing was made yet",))
        shown = members if most is None or len(members) <= most + 1 else members[:most]
        yield from (f"    {status.cell}" for status in shown)
        if len(shown) < len(members):
            yield f"    and {len(members) - len(shown)} more"


def _reasons(status: CellStatus) -> Iterator[str]:
    if status.last_line:
        yield status.last_line
    if status.lacking and len(status.lacking) < len(paths.products(status.cell)):
        yield f"lacks {', '.join(path.name for path in status.lacking)}"
    yield from (str(change) for change in status.changes if change.kind not in ("waits", "code"))
    code: dict[str, list[str]] = {}
    for change in status.changes:
        if change.kind == "code":
            code.setdefault(change.turned, []).append(change.name)
    for turned, modules in code.items():
        yield f"code {turned}: {', '.join(modules)}"
    waits = [change for change in status.changes if change.kind == "waits"]
    if len(waits) == 1:
        yield str(waits[0])
    elif waits:
        stages = [change.name.partition(" ")[0] for change in waits]
        each = ", ".join(f"{stages.count(stage)} {stage}" for stage in dict.fromkeys(stages))
        yield f"waits for {each}"


def _unfinished(statuses: Iterable[CellStatus]) -> list[CellStatus]:
    return [status for status in statuses if status.progress is not Progress.DONE]


def _cost(statuses: Iterable[CellStatus]) -> dict[str, Any]:
    costs = [status.cost_s for status in _unfinished(statuses)]
    return {"cost_s": sum(cost for cost in costs if cost is not None), "cost_unknown": costs.count(None)}


def _cell(status: CellStatus) -> dict[str, Any]:
    cell = status.cell
    return {
        "cell": str(cell),
        "stage": cell.stage,
        "experiment": cell.experiment or None,
        "variant": cell.variant or None,
        "seed": cell.seed if cell.variant else None,
        "name": cell.name or None,
        "state": status.progress.value,
        "changes": [_change(change) for change in status.changes],
        "lacking": [str(path) for path in status.lacking],
        "last_line": status.last_line or None,
        "cost_s": status.cost_s,
        "share": status.share,
        "left_s": status.left_s,
    }


def _change(change: Change) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": change.kind, "name": change.name, "text": str(change)}
    sides = {"before": change.before, "after": change.after}
    return plain | {name: value for name, value in sides.items() if value is not ABSENT}


def counted(cells: int) -> str:
    """Write a number of cells."""
    return "1 cell" if cells == 1 else f"{cells} cells"


def _text(value: Any) -> str:
    return "none" if value is ABSENT else str(value)
