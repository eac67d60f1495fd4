"""Plugin of Snakemake that is found by the name of this package: `--logger gauntlet` shows a run by its cells."""

from gauntlet.pipeline.display.handler import LogHandler, LogHandlerSettings

__all__ = ["LogHandler", "LogHandlerSettings"]
