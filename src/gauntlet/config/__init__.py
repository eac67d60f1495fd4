"""The configuration: a closed, frozen schema, its reading from YAML, and the grid of cells it spans."""

from gauntlet.config.grid import Cell
from gauntlet.config.loading import load
from gauntlet.config.schema import Config, Execution, Experiment

__all__ = ["Cell", "Config", "Execution", "Experiment", "load"]
