"""Cells by the name of their stage."""

from __future__ import annotations

from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages.catalog import stage


def make_cell(stage_name: str, experiment: str = "", variant: str = "", seed: int = 0, name: str = "") -> Cell:
    """Return the cell of a stage that ids name."""
    return Cell(stage(stage_name), experiment, variant, seed, name)
