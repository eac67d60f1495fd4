"""Status of a run as plain values, for `gauntlet status --json`; docs/status.md describes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gauntlet.pipeline.status.cell_status import CellState, CellStatus, work_left
from gauntlet.pipeline.status.changes import ABSENT, Change
from gauntlet.pipeline.status.run_status import RunStatus

FORMAT = 1

_HOLDER_KEYS = {"host", "pid", "user", "started", "command"}


def status_as_dict(run: RunStatus) -> dict[str, Any]:
    """Return the status of a run as plain values."""
    return {
        "format": FORMAT,
        "cells": [_cell(status) for status in run.cells],
        "stages": [{"stage": stage, **_totals(statuses)} for stage, statuses in run.by_stage().items()],
        "total": _totals(run.cells),
        "environments": [
            {"cells": other.cells, "changes": [_change(change) for change in other.changes]}
            for other in run.environments
        ],
        "left_out": dict(run.left_out),
        "controller": None if run.controller is None else run.controller.model_dump(include=_HOLDER_KEYS),
    }


def _totals(statuses: Iterable[CellStatus]) -> dict[str, Any]:
    statuses = list(statuses)
    states = [status.state for status in statuses]
    seconds, unknown = work_left(statuses)
    return {**{state.value: states.count(state) for state in CellState}, "cost_s": seconds, "cost_unknown": unknown}


def _cell(status: CellStatus) -> dict[str, Any]:
    cell = status.cell
    return {
        "cell": str(cell),
        "stage": cell.stage.name,
        "experiment": cell.experiment or None,
        "variant": cell.variant or None,
        "seed": cell.seed if cell.variant else None,
        "name": cell.name or None,
        "state": status.state.value,
        "changes": [_change(change) for change in status.changes],
        "lacking": [str(path) for path in status.missing_files],
        "last_line": status.last_line or None,
        "cost_s": status.cost_s,
        "share": status.share,
        "left_s": status.left_s,
    }


def _change(change: Change) -> dict[str, Any]:
    values = {"before": change.before, "after": change.after}
    present = {name: value for name, value in values.items() if value is not ABSENT}
    return {"kind": change.kind, "name": change.name, "text": str(change), **present}
