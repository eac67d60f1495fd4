"""A terminal with lines that scroll and, below them, a block that is redrawn in place.

The cursor stays visible, at the start of the line below the block, whenever nothing is being written: a process that is
killed leaves a whole block and a usable terminal.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

_UP = "\x1b[{}F"
_CLEAR_BELOW = "\x1b[J"


class Screen:
    """Writer of scrolling text and a block on a terminal; a stream that is none is written through.

    Where the terminal is gone, nothing more is written.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.RLock()
        self._block: list[str] = []
        self._unfinished_line = ""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self.stream.fileno())
            if columns > 0 and rows > 0:
                return columns, rows
        return 80, 24

    def print(self, text: str) -> None:
        """Write lines above the block."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Write text above the block, once its last line is complete."""
        with self._lock:
            lines, newline, self._unfinished_line = (self._unfinished_line + text).rpartition("\n")
            if newline:
                self._put(f"{self._erasure()}{lines}\n{self._drawing()}")

    def draw(self, block: Sequence[str]) -> None:
        """Replace the block by other lines, none of them longer than the terminal is wide."""
        with self._lock:
            erasure, self._block = self._erasure(), list(block)
            if erasure or block:
                self._put(f"{erasure}{self._drawing()}")

    def end(self) -> None:
        """Remove the block, and write what is left of an unfinished line."""
        with self._lock:
            self.draw([])
            if self._unfinished_line:
                self.write("\n")

    def _erasure(self) -> str:
        return f"{_UP.format(len(self._block))}{_CLEAR_BELOW}" if self._block else ""

    def _drawing(self) -> str:
        return "".join(f"{line}\n" for line in self._block)

    def _put(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"
        # A window that was closed (OSError), a stream that was closed (ValueError).
        with suppress(OSError, ValueError):
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()


class ScreenStream:
    """Replacement of a standard stream: text is written above the block of a screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> int:
        """Write text above the block."""
        self._screen.write(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._screen.stream, name)
