"""The table as Markdown, to read, and as CSV with full precision, to compute with."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields

from gauntlet.reporting.formatting import NORM_NAMES, escaped
from gauntlet.reporting.tables import wording as text
from gauntlet.reporting.tables.content import Cell, Column, Content


def markdown(content: Content) -> str:
    """Write the table with its notes below."""
    columns = content.columns
    lines = [
        f"# {escaped(content.design.experiment)}",
        "",
        _line(["variant", *map(_head, columns)]),
        _line(["---", *["---:"] * len(columns)]),
        *(
            _line([escaped(content.title(one)), *(_shown(content.cells[one, column]) for column in columns)])
            for one in content.design.variants
        ),
        "",
        *(f"- {escaped(note)}" for note in text.notes(content)),
    ]
    return "\n".join(lines) + "\n"


def csv_cells(content: Content) -> str:
    """Write a line per variant and column, every number in full; what is unknown is empty."""
    ids = ("experiment", "variant", "title", "measure", "name", "norm", "epsilon", "column")
    out = io.StringIO()
    writer = csv.DictWriter(out, [*ids, *(field.name for field in fields(Cell))], lineterminator="\n")
    writer.writeheader()
    for variant in content.design.variants:
        for column in content.columns:
            told = (
                content.design.experiment,
                variant,
                content.title(variant),
                column.measure,
                column.name,
                column.norm,
            )
            row = dict(zip(ids, (*told, column.epsilon, column.title), strict=True))
            writer.writerow(row | asdict(content.cells[variant, column]))
    return out.getvalue()


def _head(column: Column) -> str:
    norm = NORM_NAMES.get(column.norm, column.norm) if column.norm else ""
    kind = "certified" if column.measure == "certified" else ""
    return escaped(" ".join(part for part in (norm, column.title, kind, text.budget(column)) if part))


def _shown(cell: Cell) -> str:
    number = f"**{text.mean(cell)}**" if cell.best else text.mean(cell)
    return " ".join(part for part in (number, escaped(text.interval(cell))) if part) + escaped(text.flags(cell))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
