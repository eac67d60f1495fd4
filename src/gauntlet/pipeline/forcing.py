"""Cells that the user asks Snakemake to make again though they are current: ``-f``, ``-F``, ``-R``.

Snakemake starts their jobs; this record makes the jobs do the work. It is passed to them in an environment variable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from gauntlet.core.files import modified_s
from gauntlet.pipeline.stage import Cell

VARIABLE = "GAUNTLET_FORCED"
SINCE_VARIABLE = "GAUNTLET_FORCED_SINCE"
"""Holds the time at which a controller's job first started, as ISO 8601: its later starts continue the same run."""


@dataclass(frozen=True)
class Forced:
    """The forced cells, as names of their rules or as files that they make, and the time at which the run began.

    A cell that was made since then is not made again: a retried group job, or a restarted controller, goes on.
    """

    rules: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    since: float = 0.0

    @classmethod
    def begun_now(cls, rules: Iterable[str], files: Iterable[str]) -> Self:
        """Return the record of a run that begins, or that a controller continues."""
        since = time.time()
        if started := os.environ.get(SINCE_VARIABLE):
            since = datetime.fromisoformat(started).timestamp()
        return cls(frozenset(rules), frozenset(map(os.path.relpath, files)), since)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Return the record that Snakemake's main process has made; an empty one outside of such a run."""
        if VARIABLE not in environment:
            return cls()
        rules, files, since = json.loads(environment[VARIABLE])
        return cls(frozenset(rules), frozenset(files), since)

    def to_environment(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Pass the record on to processes started later; remove an earlier one."""
        environment.pop(VARIABLE, None)
        if self:
            environment[VARIABLE] = json.dumps([sorted(self.rules), sorted(self.files), self.since])

    def __bool__(self) -> bool:
        """True if any cell is forced."""
        return bool(self.rules or self.files)

    def includes(self, cell: Cell) -> bool:
        """Return whether a cell is to be made again, and has not been since the run began."""
        is_named = not self.rules.isdisjoint(cell.stage.rules) or not self.files.isdisjoint(map(str, cell.outputs))
        return is_named and modified_s(cell.outputs[0]) < self.since
