"""Text of the display: the block on a terminal, the line of each event elsewhere, the summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from gauntlet.pipeline.display.jobs import CellsJob
from gauntlet.pipeline.display.tally import Failure, RunTally
from gauntlet.pipeline.stages.catalog import stages
from gauntlet.pipeline.status.formatting import count_cells

_COLORS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_LISTED = 8
"""Largest number of running jobs that are named."""
_LISTED_FAILURES = 20
_BAR_COLUMNS = 24


@dataclass(frozen=True)
class Style:
    """Abilities of a terminal: colors, and letters beyond ASCII."""

    is_colored: bool = False
    is_unicode: bool = True

    def paint(self, text: str, color: str) -> str:
        """Color a text."""
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if self.is_colored and text else text

    def bar(self, share: float, columns: int) -> str:
        """Draw a bar of which a share in [0, 1] is filled."""
        filled = round(share * columns)
        done, todo = ("━", "─") if self.is_unicode else ("#", "-")
        return self.paint(done * filled, "green") + self.paint(todo * (columns - filled), "dim")


def format_clock(seconds: float) -> str:
    """Format a duration as minutes and seconds, or hours, minutes and seconds."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def planning_block(seconds: float) -> list[str]:
    """Return the block while Snakemake builds its graph."""
    return [f"planning  {format_clock(seconds)}"]


def block(tally: RunTally, now_s: float, size: tuple[int, int], style: Style, *, verb: str = "running") -> list[str]:
    """Return the lines of the block: progress and time left, counts of each stage, and the jobs that run.

    `size` are the columns and rows of the terminal, which the block does not fill. `verb` heads the running jobs.
    """
    columns, rows = size[0] - 1, max(size[1] - 2, 1)
    done = tally.done.total()
    share = done / tally.cells if tally.cells else 0.0
    counts = f"{done} of {count_cells(tally.cells)}"
    times = format_clock(tally.elapsed_s(now_s))
    left_s = tally.seconds_left(now_s)
    if left_s is not None and done < tally.cells:
        times += f", about {format_clock(max(left_s, 1.0))} left" if left_s > 0 else ", longer than expected"
    failed = f"{len(tally.failed)} failed" if tally.failed else ""
    plain = "  ".join(part for part in (counts, f"{100 * share:3.0f} %", times, failed) if part)
    bar_columns = min(_BAR_COLUMNS, columns - len(plain) - 2)
    bar = style.bar(share, bar_columns) + "  " if bar_columns >= 4 else ""
    head = bar + _cut(plain.removesuffix(failed), columns) + style.paint(failed, "red")
    if cell_len(plain) > columns:
        head = _cut(plain, columns)
    lines = [head, *(style.paint(line, "dim") for line in _stage_lines(tally, columns))]
    listed = max(min(_LISTED, rows - len(lines) - 2), 0)
    return [*lines, *_running_lines(tally, now_s, columns, style, listed, verb)][:rows]


def _stage_lines(tally: RunTally, columns: int) -> Iterator[str]:
    """Yield the counts of each stage, in lines that fit."""
    names = [stage.name for stage in stages() if tally.planned[stage.name] or tally.done[stage.name]]
    line = ""
    for name in names:
        entry = f"{name} {tally.done[name]}/{max(tally.planned[name], tally.done[name])}"
        if line and len(line) + 2 + len(entry) > columns:
            yield line
            line = ""
        line = f"{line}  {entry}" if line else entry
    if line:
        yield _cut(line, columns)


def _running_lines(tally: RunTally, now_s: float, columns: int, style: Style, listed: int, verb: str) -> Iterator[str]:
    """Yield the names of the running jobs, the longest-running first, with the time that each has run."""
    running = list(tally.running.values())
    if not running:
        return
    hidden = len(running) - listed
    if hidden > 0 or not listed:
        stages_running = Counter(attempt.job.stage.name for attempt in running)
        yield _cut(f"{verb}: {_join_counts(stages_running)}", columns)
    else:
        yield style.paint(_cut(f"{verb}:", columns), "cyan")
    # A dictionary keeps the order in which jobs started.
    for attempt in running[:listed]:
        again = f", attempt {attempt.number}" if attempt.number > 1 else ""
        time = f"  {format_clock(now_s - attempt.start_s)}{again}"
        yield (
            f"  {_cut(str(attempt.job), columns - 2 - len(time))}{time}"
            if columns > len(time) + 12
            else _cut(f"  {attempt.job}", columns)
        )
    if hidden > 0 and listed:
        yield _cut(f"  and {hidden} more", columns)


def _join_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _cut(text: str, columns: int) -> str:
    """Shorten a text to a number of columns; wide letters take two."""
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, max(columns - 3, 0)).rstrip() + "..."[: max(columns, 0)]


def progress_note(tally: RunTally) -> str:
    """Return the number of finished cells, for the line of an event."""
    return f" ({tally.done.total()} of {tally.cells})"


def failure_text(failure: Failure) -> str:
    """Return the reason and the log of a failed job."""
    reason = printable(failure.reason) or "ended without a message"
    return f"{reason} ({failure.log})" if failure.log else reason


def printable(text: str) -> str:
    """Return a line without the control characters of terminals."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def summary(tally: RunTally, now_s: float, cpu_s: float | None, style: Style, *, is_stopped: bool) -> list[str]:
    """Return one line of counts and times, the cells that failed, and where the results are."""
    done, failed = tally.done.total(), len({failure.job.cell for failure in tally.failed.values()})
    waiting = tally.cells - done - len({f.job.cell for f in tally.failed.values() if not f.job.shard})
    parts = [f"{done - tally.up_to_date} of {count_cells(tally.cells)} made"]
    parts += [f"{tally.up_to_date} found up to date"] if tally.up_to_date else []
    parts += [style.paint(f"{failed} failed", "red")] if failed else []
    parts += [f"{waiting} not finished" if is_stopped else f"{waiting} wait for them"] if waiting else []
    parts += [f"{tally.current} already current"] if tally.current else []
    times = format_clock(tally.elapsed_s(now_s))
    times += f" (CPU time {format_clock(cpu_s)})" if cpu_s is not None else ""
    lines = [f"{'stopped: ' if is_stopped else ''}{', '.join(parts)}; {times}"]
    lines += [
        f"failed: {failure.job}: {failure_text(failure)}" for failure in list(tally.failed.values())[:_LISTED_FAILURES]
    ]
    if len(tally.failed) > _LISTED_FAILURES:
        lines.append(f"failed: {len(tally.failed) - _LISTED_FAILURES} more; `gauntlet status` lists them")
    if is_stopped:
        lines.append("the same command continues")
    if tally.results:
        lines.append(f"results: {', '.join(map(str, tally.results))}")
    return lines


def event_line(clock: str, job: CellsJob, change: str) -> str:
    """Return the line of an event, in the form of `gauntlet status --watch`."""
    return f"{clock} {job}: {change}"


def indented(lines: Sequence[str]) -> str:
    """Indent lines of a log."""
    return "\n".join(f"    {printable(line)}" for line in lines)
