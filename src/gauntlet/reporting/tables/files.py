"""Texts of all table files of an experiment."""

from __future__ import annotations

from gauntlet.reporting.tables.cells import TableInputs, read_table_content
from gauntlet.reporting.tables.latex import latex_table
from gauntlet.reporting.tables.macros import macros
from gauntlet.reporting.tables.markdown import csv_cells, markdown

FILES = ("table.tex", "macros.tex", "table.md", "table.csv")


def render_tables(inputs: TableInputs, *, mark: str = "") -> dict[str, str]:
    """Return the text of every file of FILES, which depends on the inputs alone.

    `mark` is written into a comment at the head of the LaTeX files.

    Raises InputError when the evaluations are missing or damaged, or when two numbers would have the same macro.
    """
    content = read_table_content(inputs)
    texts = (latex_table(content, mark=mark), macros(content, mark=mark), markdown(content), csv_cells(content))
    return dict(zip(FILES, texts, strict=True))
