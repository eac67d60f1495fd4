"""Plugin of Snakemake, found by the name of this package: `--logger gauntlet` shows a run by its cells.

The display itself is `gauntlet.pipeline.display`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from logging import LogRecord
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

# Every start of Snakemake imports every plugin, in jobs too: what the display needs is imported when it is used.
if TYPE_CHECKING:
    from gauntlet.pipeline.display.jobs import CellsJob
    from gauntlet.pipeline.display.run_display import RunDisplay
    from gauntlet.pipeline.stage import Cell

__all__ = ["LogHandler", "LogHandlerSettings"]

_FORMS = ("auto", "lines", "snakemake")


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Option of the display."""

    show: str = field(
        default="auto",
        metadata={
            "help": "How a run is shown: auto (a block that is redrawn on a terminal, a line per event elsewhere), "
            "lines (a line per event on a terminal too), snakemake (the lines of Snakemake itself).",
            "choices": list(_FORMS),
            # Annotations are text here, which Snakemake would take for the type.
            "type": str,
            "env_var": True,
        },
    )


class LogHandler(LogHandlerBase):
    """Handler of Snakemake's log records that shows a run by the names of its cells.

    Dry runs, `--quiet all` and `show=snakemake` are left to Snakemake's own handler, which is installed where no plugin
    writes to the terminal.
    """

    def __post_init__(self) -> None:
        """Choose a form, and build the display."""
        self._display: RunDisplay | None = None
        self._other: Any = None
        show = getattr(self.settings, "show", "auto")
        quiet = {str(getattr(kind, "name", kind)).lower() for kind in self.common_settings.quiet or ()}
        if show == "snakemake" or self.common_settings.dryrun or "all" in quiet:
            return
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        from gauntlet.pipeline.display.run_display import RunDisplay
        from gauntlet.pipeline.display.screen import Screen, ScreenStream
        from gauntlet.pipeline.display.text import Style

        common = self.common_settings
        screen = Screen(sys.stderr)
        stream: Any = ScreenStream(screen)
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
        is_colored = is_terminal and not common.nocolor and not os.environ.get("NO_COLOR")
        self._other = ColorizingTextHandler(
            nocolor=not is_colored,
            stream=stream,
            formatter=DefaultFormatter(common.quiet, common.show_failed_logs),
            filter=DefaultFilter(common.quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds),
        )
        is_unicode = "utf" in (sys.stderr.encoding or "").lower()
        self._display = RunDisplay(
            screen,
            self._other,
            Style(is_colored, is_unicode),
            is_live=is_terminal and show == "auto",
            is_quiet="progress" in quiet,
            is_verbose=common.verbose,
            shows_commands=common.printshellcmds,
            tail=common.show_failed_logs,
        )

    def describe(
        self,
        jobs: Sequence[CellsJob],
        current: int,
        cost: Callable[[Cell], float | None],
        upstream: Callable[[Cell], Iterable[Cell]],
    ) -> None:
        """Set the work of the run; see `RunTally.plan`."""
        if self._display:
            self._display.describe(jobs, current, cost, upstream)

    def emit(self, record: LogRecord) -> None:
        """Show a record. Should the display fail, Snakemake's own handler takes over."""
        if self._display:
            try:
                self._display.handle(record)
                return
            except Exception:
                # Raised here, the exception would end the thread that writes all messages.
                display, self._display = self._display, None
                self.handleError(record)
                display.end()
        if self._other:
            self._other.handle(record)

    def close(self) -> None:
        """Leave the terminal as it was, and print the summary."""
        display, self._display = self._display, None
        if display:
            display.end()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """True if the display takes the place of Snakemake's own handler."""
        return self._display is not None

    @property
    def writes_to_file(self) -> bool:
        """False: Snakemake writes its log file itself."""
        return False

    @property
    def has_filter(self) -> bool:
        """True: `quiet` is decided here."""
        return True

    @property
    def has_formatter(self) -> bool:
        """True: texts are formatted here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """False: cells are named without it."""
        return False
