"""Where a run stands: the state of every cell, what exactly made it stale, and what making it again will cost."""

from __future__ import annotations

from gauntlet.pipeline.status.cell_states import CellStatus, Progress, Survey, survey
from gauntlet.pipeline.status.changes import Change, compare, named_path

__all__ = ["CellStatus", "Change", "Progress", "Survey", "compare", "named_path", "survey"]
