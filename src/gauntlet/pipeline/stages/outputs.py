"""Publication of a cell's files: all of one run, or visibly incomplete."""

from __future__ import annotations

import shutil

from gauntlet.core.files import remove_leftovers
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell


def withdraw(cell: Cell) -> None:
    """Remove the files of an earlier run of a cell, just before the new ones are written.

    A kill between two of the new files then leaves an incomplete cell, which is made again, and never a mixture. Files
    that a kill left under a temporary name are removed too.
    """
    for path in cell.outputs:
        path.unlink(missing_ok=True)
        remove_leftovers(path)


def sweep(cell: Cell) -> None:
    """Remove the partial files of a published cell, those of other settings too."""
    if cell.stage.resumable:
        for folder in paths.partial(cell, "").parent.glob(paths.partial(cell, "").name + "*"):
            shutil.rmtree(folder, ignore_errors=True)
