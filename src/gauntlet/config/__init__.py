"""The configuration: a closed, frozen schema, and its reading from YAML."""

from gauntlet.config.execution import Execution
from gauntlet.config.loading import load
from gauntlet.config.schema import Config, Experiment

__all__ = ["Config", "Execution", "Experiment", "load"]
