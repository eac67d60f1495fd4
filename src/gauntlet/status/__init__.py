"""Where a run stands: the state of every cell, what exactly made it stale, and what making it again will cost."""

from __future__ import annotations

from gauntlet.status.cells import CellStatus, Progress, Survey, survey
from gauntlet.status.changes import Change, compare, named_path

__all__ = ["CellStatus", "Change", "Progress", "Survey", "compare", "named_path", "survey"]
