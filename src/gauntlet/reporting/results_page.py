"""The page docs/results.md, written from the tables and texts that are kept in docs/results.

A table `NAME.csv` is one of `reporting.kept_results`; `NAME.md` is the text above it. Rows without a published value
are measured only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.reporting.footnotes import footnote_marks
from gauntlet.reporting.formatting import escape_markdown, sentence
from gauntlet.reporting.kept_results import ORIGIN, REASON, read_kept
from gauntlet.reporting.tables.markdown import markdown_row
from gauntlet.reporting.tables.published_lines import (
    HEADS,
    interval_text,
    mark_notes,
    measured_text,
    published_lines,
    quantity_text,
)
from gauntlet.reporting.tables.published_rows import OUTSIDE

INTRODUCTION = "introduction.md"
_NOTE = """\
<!-- Written by `python -m gauntlet.reporting.results_page docs/results > docs/results.md` from the tables there; a test
keeps it so. -->
"""
_SHOWN = (*HEADS, "commit")
_MEASURED = HEADS.index("measured") - 1
"""Position of the measured number after the name of the variant."""


def results_page(folder: Path) -> str:
    """Return the page: the introduction, then every text with its table. Raises InputError for a damaged table."""
    title, _, introduction = _read_text(folder / INTRODUCTION).partition("\n")
    sections = [f"{title}\n\n{_NOTE}{introduction}"]
    for text in sorted(folder.glob("*.md")):
        if text.name != INTRODUCTION:
            table = text.with_suffix(".csv")
            lines = list(_table_lines(read_kept(table))) if table.is_file() else []
            sections.append("\n".join([_read_text(text).rstrip("\n"), *lines]))
    if lost := sorted(path.name for path in folder.glob("*.csv") if not path.with_suffix(".md").is_file()):
        raise InputError("the table has no text", where=str(folder / lost[0]), remedy="write one of the same name, .md")
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("the text cannot be read", where=str(path)) from error


def _table_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    compared = [row for row in rows if row["published"] is not None]
    measured = [row for row in rows if row["published"] is None]
    if compared:
        yield from _compared(compared)
    if measured:
        yield from _measured(measured)
    # In a kept table, an empty field is that no check failed, or that none was made.
    marked = [{**row, "flags": row["flags"] or ""} for row in rows if row["measured"] is not None]
    if notes := mark_notes(marked):
        yield from ("", *(f"- {escape_markdown(note)}" for note in notes))
    yield from _origins(rows)


def _origins(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how the rows were made, each commit, machine and command once; nothing for what was not run."""
    origins = [origin for row in rows if any(origin := tuple(row[name] for name in ORIGIN))]
    if origins:
        yield from ("", markdown_row([name.replace("_", " ") for name in ORIGIN]), markdown_row(["---"] * len(ORIGIN)))
    for origin in dict.fromkeys(origins):
        yield markdown_row([*map(escape_markdown, origin)])


def _compared(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line per published number, and the notes and reasons of differences."""
    yield from ("", markdown_row(list(_SHOWN)))
    yield markdown_row([*["---"] * 2, *["---:"] * 6, *["---"] * 2])
    for row, line in zip(rows, published_lines(rows, {}), strict=True):
        texts = list(map(escape_markdown, line.fields[1:]))
        texts[_MEASURED] += escape_markdown(line.marks)
        verdict = f"**{texts[-1]}**" if line.verdict == OUTSIDE else texts[-1]
        yield markdown_row([f"`{row['variant']}`", *texts[:-1], verdict, row["commit"]])
    notes = [
        f"- `{row['variant']}`, {escape_markdown(row['quantity'])}: {escape_markdown(sentence(row[kind]))}"
        for kind in ("note", REASON)
        for row in rows
        if row[kind]
    ]
    yield from ["", *dict.fromkeys(notes)] if notes else []


def _measured(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line per quantity without a published value, a column per variant and commit."""
    order = list(dict.fromkeys(row["variant"] for row in rows))
    made = dict.fromkeys((row["variant"], row["commit"]) for row in rows)
    columns = sorted(made, key=lambda column: order.index(column[0]))
    cells = {(_label(row), row["variant"], row["commit"]): row for row in rows}
    yield from ("", "Measured, without a published value:", "")
    yield markdown_row(["", *(", ".join(filter(None, (f"`{variant}`", commit))) for variant, commit in columns)])
    yield markdown_row(["---", *["---:"] * len(columns)])
    for quantity in dict.fromkeys(map(_label, rows)):
        found = [cells.get((quantity, *column)) for column in columns]
        yield markdown_row([escape_markdown(quantity), *(_cell(row) if row else "" for row in found)])
    notes = [
        f"- {escape_markdown(row['quantity'])}: {escape_markdown(sentence(row['note']))}" for row in rows if row["note"]
    ]
    yield from ["", *dict.fromkeys(notes)] if notes else []


def _label(row: Mapping[str, Any]) -> str:
    """Return the name of a quantity, with the budget if the name says that it has one."""
    return quantity_text(row) if "@" in row["quantity"] else str(row["quantity"])


def _cell(row: Mapping[str, Any]) -> str:
    """Return a measured number with its unit, marks and interval."""
    interval = interval_text(row).replace(" to ", ", ")
    unit = f" {row['unit']}" if row["unit"] not in ("", "%") else ""
    return (
        measured_text(row) + unit + escape_markdown(footnote_marks([row])) + (f" \\[{interval}\\]" if interval else "")
    )


if __name__ == "__main__":
    sys.stdout.write(results_page(Path(sys.argv[1])))
