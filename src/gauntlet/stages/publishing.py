"""How a stage publishes its files: all of one making, or visibly incomplete."""

from __future__ import annotations

from gauntlet import paths
from gauntlet.config.grid import Cell


def withdraw(cell: Cell) -> None:
    """Remove what an earlier making left of a cell, just before the new files are written.

    A kill between two of the new files then leaves the cell incomplete, which is made again, and never a mixture.
    """
    for path in paths.products(cell):
        path.unlink(missing_ok=True)
