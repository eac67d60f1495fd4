"""The table in LaTeX: a booktabs tabular with its notes below, for a table environment."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from gauntlet.core.norms import NORM_LATEX
from gauntlet.reporting.tables import wording
from gauntlet.reporting.tables.cells import Column, TableCell, TableContent
from gauntlet.reporting.tables.rows import RowLabels, row_labels, without_repeats

_SIZES = ((7, ""), (9, "footnotesize"))
"""Maximum number of columns per font size; tables with more columns are `_SMALLEST`."""

_SMALLEST = "scriptsize"

_MOST_ROWS = 45
"""Number of rows up to which a table fits on a page."""

_MARKS = {"*": "*", "†": r"\dag", "‡": r"\ddag"}

_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau"
    " upsilon phi chi psi omega"
)
_MATH = (
    "Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon Φ Phi Ψ Psi Ω Omega ϵ epsilon ϑ vartheta ϕ phi"
    " × times ± pm ∞ infty ≤ leq ≥ geq ≠ neq ≈ approx ∼ sim ∝ propto ∈ in → rightarrow ← leftarrow ↔ leftrightarrow"
    " ⇒ Rightarrow · cdot ∘ circ ⊕ oplus ⊗ otimes √ surd ∑ sum ∏ prod ∂ partial ∇ nabla ‖ Vert ℓ ell"
)
_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After the end of a row these three would begin its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "—": "---",
    "–": "--",
    "−": "$-$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    **{chr(ord("α") + offset): f"$\\{name}$" for offset, name in enumerate(_GREEK.split())},
    **{symbol: f"$\\{name}$" for symbol, name in re.findall(r"(\S+) (\S+)", _MATH)},
    **{digit: rf"\textsuperscript{{{number}}}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{digit: rf"\textsubscript{{{number}}}" for number, digit in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    "ο": "o",
}


def escape_latex(text: str) -> str:
    """Escape text for LaTeX, so that every character is printed."""
    return "".join(_SYMBOLS.get(character, character) for character in " ".join(text.split()))


def latex_table(content: TableContent, *, mark: str = "") -> str:
    """Return the table, which needs the package booktabs; `mark` is written into a comment at its head.

    Many columns are set in small type without gaps, so that eleven with short names fit on a one-column page. More rows
    than fit on a page are a longtable, with its head on every page.
    """
    columns, labels = content.columns, row_labels(content.design)
    width = len(columns) + len(labels.heads) - 1
    size = next((size for most, size in _SIZES if width <= most), _SMALLEST)
    tight = bool(size)
    rows = {variant: [content.cells[variant, column] for column in columns] for variant in content.design.variants}
    widest_marks = [max(map(wording.marks_text, cells), key=len) for cells in zip(*rows.values(), strict=True)]
    is_long = len(rows) > _MOST_ROWS
    kind = "longtable" if is_long else "tabular"
    gap = "3pt" if labels.are_factors else "1.6pt"
    lines = [
        *([f"% {mark}"] if mark else []),
        rf"% \usepackage{{booktabs{',longtable' if is_long else ''}}}",
        *([rf"{{\{size}\setlength{{\tabcolsep}}{{{gap}}}"] if tight else []),
        rf"\begin{{{kind}}}{{@{{}}{'l' * len(labels.heads)}{'r' * len(columns)}@{{}}}}",
        r"\toprule",
        *latex_heads(columns, labels.heads),
        r"\midrule",
        *([r"\endhead", r"\bottomrule", r"\endfoot"] if is_long else []),
        *_rows(
            labels,
            {
                name: [_cell(*cell, tight) for cell in zip(cells, widest_marks, strict=True)]
                for name, cells in rows.items()
            },
        ),
        *([] if is_long else [r"\bottomrule"]),
        rf"\end{{{kind}}}}}" if tight else rf"\end{{{kind}}}",
        "",
        r"\smallskip",
        rf"{{\footnotesize {' '.join(map(escape_latex, wording.table_notes(content)))}\par}}",
    ]
    return "\n".join(lines) + "\n"


def _rows(labels: RowLabels, numbers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a line per variant; levels of factors that the line above has too are left out."""
    above: tuple[str, ...] | None = None
    for variant, fields in numbers.items():
        own = labels.of[variant]
        if above is not None and labels.are_factors and own[0] != above[0]:
            yield r"\addlinespace"
        yield latex_row([*map(escape_latex, without_repeats(own, above)), *fields])
        above = own


def _group(column: Column) -> str:
    if column.norm is None:
        return ""
    norm = NORM_LATEX.get(column.norm, escape_latex(column.norm))
    return f"certified, {norm}" if column.measure == "certified" else norm


def latex_heads(columns: Sequence[Column], labels: Sequence[str] = ("",)) -> Iterator[str]:
    """Yield the lines above the numbers: norms with a rule below them, titles, budgets; `labels` head the rows."""
    groups = [(norm, len(list(members))) for norm, members in itertools.groupby(columns, key=_group)]
    empty = [""] * len(labels)
    yield latex_row([*empty, *(rf"\multicolumn{{{width}}}{{c}}{{{head}}}" for head, width in groups)])
    rules, first = [], len(labels) + 1
    for head, width in groups:
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if head else []
        first += width
    if rules:
        yield " ".join(rules)
    yield latex_row([*map(escape_latex, labels), *(escape_latex(column.title) for column in columns)])
    yield latex_row([*empty, *(_math(wording.column_budget_text(column)) for column in columns)])


def _cell(cell: TableCell, widest_marks: str, tight: bool) -> str:
    """Return a field; without marks it leaves room for the widest of the column, so that digits are aligned."""
    accuracy, interval = escape_latex(wording.accuracy_text(cell)), escape_latex(wording.interval_text(cell))
    number = rf"\textbf{{{accuracy}}}" if cell.best else accuracy
    small = rf"{{\tiny {interval.replace(' ', '')}}}" if tight else rf" {{\scriptsize {interval}}}"
    marks = wording.marks_text(cell)
    superscript = (
        marks_superscript(marks) if marks else rf"\phantom{{{marks_superscript(widest_marks)}}}" if widest_marks else ""
    )
    return number + (small if interval else "") + superscript


def marks_superscript(marks: str) -> str:
    """Return footnote marks as a superscript."""
    return rf"$^{{{''.join(map(_MARKS.__getitem__, marks))}}}$"


def _math(budget: str) -> str:
    return rf"{{\scriptsize ${budget.replace('ε', chr(92) + 'varepsilon')}$}}" if budget else ""


def latex_row(fields: Sequence[str]) -> str:
    """Return a line of a tabular."""
    return " & ".join(fields) + r" \\"
