"""The table of published numbers as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text, escape_markdown
from gauntlet.reporting.tables.latex import escape_latex, latex_row, marks_superscript
from gauntlet.reporting.tables.markdown import markdown_row
from gauntlet.reporting.tables.published_rows import INSIDE, MISSING, OUTSIDE, PERCENT

HEADS = ("variant", "quantity", "published", "measured", "95 % interval", "expected", "seeds", "samples", "verdict")


@dataclass(frozen=True)
class PublishedLine:
    """A row of the table as text: `fields` follow HEADS, `marks` belong to the measured number."""

    variant: str
    fields: tuple[str, ...]
    marks: str
    verdict: str


def published_lines(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[PublishedLine]:
    """Return the rows of PUBLISHED_SCHEMA as text; `titles` maps variants to their printed names."""
    return [
        PublishedLine(
            row["variant"],
            (
                titles.get(row["variant"], row["variant"]),
                quantity_text(row),
                _published(row),
                number_text(row["measured"], row["unit"]),
                interval_text(row),
                interval_text(row, "expected_low", "expected_high"),
                str(row["seeds"]),
                str(row["samples"] // row["seeds"]) if row["seeds"] and row["samples"] else "–",
                verdict_text(row),
            ),
            footnote_marks([row]),
            row["verdict"],
        )
        for row in rows
    ]


def published_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the notes on units, intervals, verdicts and marks, and those of single numbers."""
    notes = ["Accuracies in percent, measured ones as means over seeds; samples per seed."]
    if any(row["interval"] == "seeds" for row in rows):
        notes.append(
            "Intervals over training seeds: Student's t, of the mean. Expected: holds one further training, or the mean"
            " of as many as were published, with 95 %. inside: it holds the published value; outside: it does not."
            " Differences: measured less published, of accuracies in percentage points."
        )
    if any(row["interval"] == "samples" for row in rows):
        notes.append("One seed: Wilson interval over samples, which has nothing of the spread over trainings.")
    notes += [f"{text[0].upper()}{text[1:]}." for text in footnotes(rows)]
    notes += [f"{row['variant']}, {row['quantity']}: {row['note']}." for row in rows if row["note"]]
    return notes


def number_text(value: float | None, unit: str) -> str:
    """Return a measured number: percent with one decimal, others with five significant digits."""
    if value is None:
        return "–"
    return f"{value:.1f}" if unit == PERCENT else f"{value:.5g}"


def interval_text(row: Mapping[str, Any], low: str = "low", high: str = "high") -> str:
    """Return the bounds of a measured number, or those in two other columns; empty without an interval."""
    if row[low] is None or row[high] is None:
        return ""
    return f"{number_text(row[low], row['unit'])} to {number_text(row[high], row['unit'])}"


def verdict_text(row: Mapping[str, Any]) -> str:
    """Return the verdict, with the difference from the published value where that is not expected."""
    if row["verdict"] in (INSIDE, MISSING) or row["difference"] is None:
        return str(row["verdict"])
    if row["unit"] == PERCENT:
        return f"{row['verdict']}, {round(row['difference'], 1) + 0.0:+.1f}"
    return f"{row['verdict']}, {row['difference']:+.3g}"


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
    lines += [f"Source: {escape_markdown(rows[0]['reference'])}.", ""] if rows else []
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
    notes = [f"Source: {rows[0]['reference']}.", *published_notes(rows)] if rows else []
    text = " ".join(map(escape_latex, notes))
    lines += [r"\bottomrule", r"\end{tabular}}", "", r"\smallskip", rf"{{\footnotesize {text}\par}}"]
    return "\n".join(lines) + "\n"


def quantity_text(row: Mapping[str, Any]) -> str:
    """Return the name of a quantity with the budget or radius that was measured."""
    name = str(row["quantity"]).split("@")[0].replace("_", " ")
    if row["budget"] is None:
        return name
    return f"{name}, {NORM_TEXT.get(row['norm'], row['norm'])} {budget_text(row['budget'])}"


def _published(row: Mapping[str, Any]) -> str:
    if row["published"] is None:
        return "–"
    spread = "" if row["published_std"] is None else f" (std {row['published_std']:g})"
    seeds = "" if row["published_seeds"] is None else f", {row['published_seeds']} seeds"
    return f"{row['published']:g}{spread}{seeds}"
