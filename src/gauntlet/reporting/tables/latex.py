"""The table as LaTeX: a tabular of booktabs with its notes below, for a table environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from gauntlet.reporting.tables import wording as text
from gauntlet.reporting.tables.content import Cell, Column, Content

_SIZES = ((7, ""), (9, "footnotesize"))
"""Up to how many columns letters of a size stand beside each other on a page; with more they are `_SMALLEST`."""

_SMALLEST = "scriptsize"

_NORMS = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$", "l1": r"$\ell_1$", "l0": r"$\ell_0$"}

_MARKS = {"*": "*", "†": r"\dag", "‡": r"\ddag"}

_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau"
    " upsilon phi chi psi omega"
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
    # After the end of a row these three would be read as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "—": "---",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    **{chr(ord("α") + place): f"$\\{name}$" for place, name in enumerate(_GREEK.split())},
    "ο": "o",
}


def escape(words: str) -> str:
    """Write text so that LaTeX prints it as it stands."""
    return "".join(_SYMBOLS.get(letter, letter) for letter in " ".join(words.split()))


def latex_table(content: Content, *, mark: str = "") -> str:
    """Write the table; it needs the package booktabs. `mark` stands in a comment at its head.

    A table of many columns is set small and tight, so that eleven with short names fit on a page of one column.
    """
    columns = content.columns
    size = next((size for most, size in _SIZES if len(columns) <= most), _SMALLEST)
    tight = bool(size)
    rows = {one: [content.cells[one, column] for column in columns] for one in content.design.variants}
    widest = [max(map(text.flags, column), key=len) for column in zip(*rows.values(), strict=True)]
    groups = [(norm, len(list(members))) for norm, members in itertools.groupby(columns, key=_group)]
    lines = [
        *([f"% {mark}"] if mark else []),
        r"% \usepackage{booktabs}",
        *([rf"{{\{size}\setlength{{\tabcolsep}}{{1.6pt}}"] if tight else []),
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
        r"\toprule",
        *_heads(groups),
        _row(["", *(escape(column.title) for column in columns)]),
        _row(["", *(_math(text.budget(column)) for column in columns)]),
        r"\midrule",
        *(
            _row([escape(content.title(one)), *(_cell(*at, tight) for at in zip(cells, widest, strict=True))])
            for one, cells in rows.items()
        ),
        r"\bottomrule",
        r"\end{tabular}}" if tight else r"\end{tabular}",
        "",
        r"\smallskip",
        rf"{{\footnotesize {' '.join(map(escape, text.notes(content)))}\par}}",
    ]
    return "\n".join(lines) + "\n"


def _group(column: Column) -> str:
    if column.norm is None:
        return ""
    norm = _NORMS.get(column.norm, escape(column.norm))
    return f"certified, {norm}" if column.measure == "certified" else norm


def _heads(groups: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Write the norms over their columns, with a rule below each."""
    yield _row(["", *(rf"\multicolumn{{{width}}}{{c}}{{{head}}}" for head, width in groups)])
    rules, first = [], 2
    for head, width in groups:
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if head else []
        first += width
    if rules:
        yield " ".join(rules)


def _cell(cell: Cell, widest: str, tight: bool) -> str:
    """Write a field; one without marks leaves the room of the column's `widest`, so that digits stand below digits."""
    number, beside = escape(text.mean(cell)), escape(text.interval(cell))
    shown = rf"\textbf{{{number}}}" if cell.best else number
    small = rf"{{\tiny {beside.replace(' ', '')}}}" if tight else rf" {{\scriptsize {beside}}}"
    marks = text.flags(cell)
    after = _marks(marks) if marks else rf"\phantom{{{_marks(widest)}}}" if widest else ""
    return shown + (small if beside else "") + after


def _marks(marks: str) -> str:
    return rf"$^{{{''.join(map(_MARKS.__getitem__, marks))}}}$"


def _math(budget: str) -> str:
    return rf"{{\scriptsize ${budget.replace('ε', chr(92) + 'varepsilon')}$}}" if budget else ""


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
