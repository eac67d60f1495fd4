"""The table as Markdown, and as CSV with full precision."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields

from gauntlet.reporting.formatting import escape_markdown
from gauntlet.reporting.tables import wording
from gauntlet.reporting.tables.cells import Column, TableCell, TableContent
from gauntlet.reporting.tables.rows import row_labels


def markdown(content: TableContent) -> str:
    """Return the table with its notes below."""
    columns, labels = content.columns, row_labels(content.design)
    heads = map(escape_markdown, labels.heads) if labels.are_factors else ["variant"]
    lines = [
        f"# {escape_markdown(content.design.experiment)}",
        "",
        markdown_row([*heads, *map(_head, columns)]),
        markdown_row([*["---"] * len(labels.heads), *["---:"] * len(columns)]),
        *(
            markdown_row(
                [
                    *map(escape_markdown, labels.of[variant]),
                    *(_cell(content.cells[variant, column]) for column in columns),
                ]
            )
            for variant in content.design.variants
        ),
        "",
        *(f"- {escape_markdown(note)}" for note in wording.table_notes(content)),
    ]
    return "\n".join(lines) + "\n"


def csv_cells(content: TableContent) -> str:
    """Return CSV with a line per variant and column and all digits of every number; unknown values are empty."""
    ids = ("experiment", "variant", "title", "measure", "name", "norm", "epsilon", "column")
    out = io.StringIO()
    writer = csv.DictWriter(out, [*ids, *(field.name for field in fields(TableCell))], lineterminator="\n")
    writer.writeheader()
    for variant in content.design.variants:
        for column in content.columns:
            measured = column.measure, column.name, column.norm, column.epsilon, column.title
            row = dict(zip(ids, (content.design.experiment, variant, content.title(variant), *measured), strict=True))
            writer.writerow(row | asdict(content.cells[variant, column]))
    return out.getvalue()


def _head(column: Column) -> str:
    return escape_markdown(wording.column_head(column))


def _cell(cell: TableCell) -> str:
    accuracy = wording.accuracy_text(cell)
    parts = (f"**{accuracy}**" if cell.best else accuracy, escape_markdown(wording.interval_text(cell)))
    return " ".join(filter(None, parts)) + escape_markdown(wording.marks_text(cell))


def markdown_row(fields: list[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(fields)} |"
