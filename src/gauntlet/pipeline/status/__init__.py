"""Status of a run: the state of every cell, what made it stale, and what running it again will cost."""

from __future__ import annotations

from gauntlet.pipeline.status.cell_status import CellState, CellStatus
from gauntlet.pipeline.status.changes import Change, compare
from gauntlet.pipeline.status.run_status import RunStatus, collect_status

__all__ = ["CellState", "CellStatus", "Change", "RunStatus", "collect_status", "compare"]
