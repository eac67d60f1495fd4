"""A terminal that interprets what the display writes, and a real pseudo-terminal for a command."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import termios

_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|\r\n|\n|[^\x1b\r\n]+")


class Terminal(io.StringIO):
    """Standard error on a terminal; `lines` is what a user sees. Control sequences that are not used are refused."""

    encoding = "utf-8"

    def isatty(self):
        """Return True."""
        return True

    @property
    def lines(self):
        """Lines on the screen, with what has scrolled off."""
        return shown_lines(self.getvalue())


def shown_lines(text):
    """Interpret the control sequences of a text; the cursor must end at the start of the line below the last one."""
    lines, row, is_at_start = [""], 0, True
    end = 0
    for token in _TOKEN.finditer(text):
        assert token.start() == end, repr(text[end : token.start()])
        end = token.end()
        count, command = token[1], token[2]
        if command == "F":
            row, is_at_start = max(row - int(count or 1), 0), True
        elif command == "J":
            assert not count
            del lines[row:]
            lines.append("")
        elif command == "m":
            continue
        elif command:
            raise AssertionError(f"unexpected control sequence {token[0]!r}")
        elif token[0] in ("\n", "\r\n"):
            row, is_at_start = row + 1, True
            if row == len(lines):
                lines.append("")
        else:
            assert not (is_at_start and lines[row]), f"{token[0]!r} is written over {lines[row]!r}"
            lines[row], is_at_start = lines[row] + token[0], False
    assert end == len(text), repr(text[end:])
    assert lines[row] == "", "the cursor is not at the start of a line"
    return lines[:row]


def run_on_terminal(command, *, size=(100, 40), **settings):
    """Run a command on a pseudo-terminal; return its exit code, and all that it wrote to the terminal."""
    process, descriptor = pty.fork()
    if process == 0:
        # A shell ignores it for what it runs in the background, these tests perhaps.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(settings.get("cwd", "."))
        os.execve(command[0], command, {**os.environ, **settings.get("env", {})})
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    written = b""
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:
            break
        if not part:
            break
        written += part
        if "on_output" in settings:
            settings["on_output"](process, written)
    _, status = os.waitpid(process, 0)
    os.close(descriptor)
    return os.waitstatus_to_exitcode(status), written.decode()
