"""The table of published numbers as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from gauntlet.reporting.formatting import escape_markdown, sentence
from gauntlet.reporting.tables.latex import escape_latex, latex_row, marks_superscript
from gauntlet.reporting.tables.markdown import markdown_row
from gauntlet.reporting.tables.published_lines import HEADS, published_lines, published_notes
from gauntlet.reporting.tables.published_rows import OUTSIDE


def render_published(rows: pa.Table, titles: Mapping[str, str], *, mark: str = "") -> dict[str, str]:
    """Return the text of every file, from rows of PUBLISHED_SCHEMA; `mark` is a comment of the LaTeX file."""
    records = rows.to_pylist()
    return {
        "published.tex": _latex(records, titles, mark),
        "published.md": _markdown(records, titles),
        "published.csv": csv_rows(records, rows.column_names),
    }


def csv_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return CSV with every digit; unknown values are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def markdown_lines(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield markdown_row(list(HEADS))
    yield markdown_row(["---", "---", *["---:"] * (len(HEADS) - 3), "---"])
    for line in published_lines(rows, titles):
        fields = [escape_markdown(text) for text in line.fields]
        fields[3] += escape_markdown(line.marks)
        yield markdown_row([*fields[:-1], f"**{fields[-1]}**" if line.verdict == OUTSIDE else fields[-1]])


def _markdown(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    lines = [f"# {escape_markdown(rows[0]['experiment'])}: published numbers", ""] if rows else []
    lines += [f"Source: {escape_markdown(sentence(rows[0]['reference']))}", ""] if rows else []
    lines += [*markdown_lines(rows, titles), "", *(f"- {escape_markdown(note)}" for note in published_notes(rows))]
    return "\n".join(lines) + "\n"


def _latex(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], mark: str) -> str:
    """Return a tabular with its notes; it needs the package booktabs."""
    lines = [*([f"% {mark}"] if mark else []), r"% \usepackage{booktabs}"]
    lines += [r"{\footnotesize\setlength{\tabcolsep}{3pt}", r"\begin{tabular}{@{}llrrrrrrl@{}}", r"\toprule"]
    lines += [latex_row([escape_latex(head) for head in HEADS]), r"\midrule"]
    above = ""
    for line in published_lines(rows, titles):
        variant, *others = map(escape_latex, line.fields)
        if above and variant != above:
            lines.append(r"\addlinespace")
        others[2] += marks_superscript(line.marks) if line.marks else ""
        lines.append(latex_row(["" if variant == above else variant, *others]))
        above = variant
    notes = [f"Source: {sentence(rows[0]['reference'])}", *published_notes(rows)] if rows else []
    text = " ".join(map(escape_latex, notes))
    lines += [r"\bottomrule", r"\end{tabular}}", "", r"\smallskip", rf"{{\footnotesize {text}\par}}"]
    return "\n".join(lines) + "\n"
