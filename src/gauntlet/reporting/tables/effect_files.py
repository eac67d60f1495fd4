"""The tables of effects as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import pyarrow as pa

from gauntlet.reporting.aggregation import ExperimentDesign
from gauntlet.reporting.formatting import escape_markdown
from gauntlet.reporting.tables.cells import Column
from gauntlet.reporting.tables.effect_cells import EffectLine, EffectNumber, EffectTable, effect_tables
from gauntlet.reporting.tables.latex import escape_latex, latex_heads, latex_row, marks_superscript
from gauntlet.reporting.tables.markdown import markdown_row
from gauntlet.reporting.tables.wording import column_head

_MOST_COLUMNS = 3
"""Maximum number of columns of a table in LaTeX in normal size."""

INTERACTIONS = (
    "Interactions: the difference between two levels of the first factor at a level of the second one, less the same"
    " difference at the second one's reference level."
)


def render_effects(effects: pa.Table, design: ExperimentDesign, *, mark: str = "") -> dict[str, str]:
    """Return the text of every file of effects, from rows of EFFECTS_SCHEMA; `mark` is a comment of the LaTeX file."""
    tables = effect_tables(effects.to_pylist(), design)
    return {
        "effects.tex": _latex(tables, mark),
        "effects.md": _markdown(tables, design.experiment),
        "effects.csv": _csv(effects),
    }


def _csv(effects: pa.Table) -> str:
    """Return every row and column with all digits; unknown values are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, effects.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(effects.to_pylist())
    return out.getvalue()


def _markdown(tables: Sequence[EffectTable], experiment: str) -> str:
    lines = [f"# {escape_markdown(experiment)}: effects of factors"]
    for table in tables:
        lines += ["", f"## {escape_markdown(table.grid)}", ""]
        lines += _markdown_table(("factor", "level"), table.columns, table.differences)
        if table.interactions:
            lines += ["", INTERACTIONS, ""]
            lines += _markdown_table(("factors", "levels"), table.columns, table.interactions)
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _markdown_table(labels: tuple[str, str], columns: Sequence[Column], rows: Sequence[EffectLine]) -> Iterator[str]:
    yield markdown_row([*labels, *(escape_markdown(column_head(column)) for column in columns)])
    yield markdown_row([*["---"] * len(labels), *["---:"] * len(columns)])
    for row in rows:
        names = map(escape_markdown, (row.factor, row.levels))
        yield markdown_row([*names, *map(_markdown_cell, row.numbers)])


def _markdown_cell(number: EffectNumber | None) -> str:
    if number is None:
        return ""
    text = f"**{number.text}**" if number.significant else number.text
    return " ".join(filter(None, (text, escape_markdown(number.interval)))) + escape_markdown(number.marks)


def _latex(tables: Sequence[EffectTable], mark: str) -> str:
    """Return a tabular per grid, and one of its significant interactions; it needs the package booktabs."""
    lines = [*([f"% {mark}"] if mark else []), r"% \usepackage{booktabs}"]
    for table in tables:
        significant = [row for row in table.interactions if row.is_significant]
        size = "normalsize" if len(table.columns) <= _MOST_COLUMNS else "footnotesize"
        lines += _latex_table(("factor", "level"), table.columns, table.differences, size)
        if significant:
            lines += ["", r"\smallskip", *_latex_table(("factors", "levels"), table.columns, significant, "scriptsize")]
        notes = list(table.notes)
        if table.interactions:
            count = f"{len(significant)} of {len(table.interactions)} interactions are significant"
            notes.append(f"{INTERACTIONS} {count}{', and shown' if significant else ''}.")
        text = " ".join(map(escape_latex, notes))
        lines += ["", r"\smallskip", rf"{{\footnotesize {text}\par}}"]
    return "\n".join(lines) + "\n"


def _latex_table(
    labels: tuple[str, str], columns: Sequence[Column], rows: Sequence[EffectLine], size: str
) -> Iterator[str]:
    yield rf"{{\{size}\setlength{{\tabcolsep}}{{3pt}}"
    yield rf"\begin{{tabular}}{{@{{}}ll{'r' * len(columns)}@{{}}}}"
    yield r"\toprule"
    yield from latex_heads(columns, labels)
    before = ""
    for row in rows:
        if row.factor != before:
            yield r"\midrule"
        name = "" if row.factor == before else escape_latex(row.factor)
        yield latex_row([name, escape_latex(row.levels), *map(_latex_cell, row.numbers)])
        before = row.factor
    yield r"\bottomrule"
    yield r"\end{tabular}}"


def _latex_cell(number: EffectNumber | None) -> str:
    if number is None:
        return ""
    text = escape_latex(number.text).replace("-", "$-$", number.text.startswith("-"))
    bold = rf"\textbf{{{text}}}" if number.significant else text
    interval = rf" {{\scriptsize {escape_latex(number.interval)}}}" if number.interval else ""
    return bold + interval + (marks_superscript(number.marks) if number.marks else "")
