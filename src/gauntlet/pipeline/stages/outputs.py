"""How a stage publishes its files: all of one making, or visibly incomplete; and what it leaves behind: nothing."""

from __future__ import annotations

import shutil

from gauntlet.config.grid import Cell
from gauntlet.core.files import remove_leftovers
from gauntlet.pipeline import paths


def withdraw(cell: Cell) -> None:
    """Remove what an earlier making left of a cell, just before the new files are written.

    A kill between two of the new files then leaves the cell incomplete, which is made again, and never a mixture. What
    a kill in the midst of writing left under a temporary name goes too.
    """
    for path in paths.products(cell):
        path.unlink(missing_ok=True)
        remove_leftovers(path)


def sweep(cell: Cell) -> None:
    """Remove the partial files of a cell that is published, those of other settings too."""
    if cell.stage in ("train", "evaluate", "certify"):
        for folder in paths.partial(cell, "").parent.glob(paths.partial(cell, "").name + "*"):
            shutil.rmtree(folder, ignore_errors=True)
