"""The configuration: a closed, frozen schema, and its reading from YAML."""

from gauntlet.config.loading import load
from gauntlet.config.schema import Config, Execution, Experiment

__all__ = ["Config", "Execution", "Experiment", "load"]
