"""Record, on disk, of the part size that fits into memory, for the next start of a training.

A process that runs out of memory in the middle of a step cannot notify the others of its training, which wait for its
results. It writes the smaller size and ends; all processes are started again, from the last checkpoint, with that size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import atomic_path

RESTART = "the next start computes fewer images at a time"
"""Message by which the command that started the processes knows that it is to start them again."""


class RestartWithLessMemory(GauntletError):
    """Memory ran out in one of several processes; the next start uses less."""

    @classmethod
    def of(cls, rank: int, size: int) -> RestartWithLessMemory:
        """Return the error of process `rank`, after which each process computes `size` images at a time."""
        return cls(f"memory ran out in process {rank}; {RESTART}: {size}")


@dataclass(frozen=True)
class MemoryRecord:
    """File with the number of images that a process computes at a time, and whether training needed it.

    Validation in smaller parts is possible for every network, training is not.
    """

    path: Path

    def read(self) -> tuple[int, bool] | None:
        """Return part size and whether training ran out of memory; None if there is no readable record."""
        try:
            record = json.loads(self.path.read_text())
            return max(1, int(record["part_size"])), bool(record["in_training"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, part_size: int, *, in_training: bool) -> None:
        """Replace the record."""
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps({"part_size": part_size, "in_training": in_training}))
