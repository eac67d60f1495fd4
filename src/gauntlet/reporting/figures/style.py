"""The style of all figures: column widths of a paper, and colors, lines and markers that differ in gray as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.core.errors import InputError, nearest
from gauntlet.core.norms import NORM_LATEX
from gauntlet.reporting.figures.text_widths import text_width_in

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""The palette of Okabe and Ito (2008) without its yellow, which vanishes on white paper."""

_PAPER_IN = 7.0

_LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.2, 1.5, 1.2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Style:
    """Sizes in inches and points, by default for a paper of two columns; a letter is about `letter_em` wide."""

    one_column_in: float = 3.4
    two_columns_in: float = 7.0
    font_pt: float = 8.0
    line_pt: float = 1.5
    raster_dpi: int = 300
    letter_em: float = 0.62

    @property
    def scale(self) -> float:
        """The size of everything but letters, relative to its size on paper."""
        return self.two_columns_in / _PAPER_IN

    @property
    def legend_row_in(self) -> float:
        """The height of a legend row, in the unit of `height_in` of `figure`."""
        return 1.55 * self.font_pt / 72 / self.scale

    @property
    def small_pt(self) -> float:
        """The font size of tick labels and notes, still readable in print."""
        return self.font_pt - 1

    def rc(self) -> dict[str, Any]:
        """Return the matplotlib settings under which a figure is drawn and saved."""
        return {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "mathtext.fontset": "dejavusans",
            "font.size": self.font_pt,
            "axes.titlesize": self.font_pt,
            "axes.labelsize": self.font_pt,
            "legend.fontsize": self.font_pt,
            "xtick.labelsize": self.small_pt,
            "ytick.labelsize": self.small_pt,
            "figure.titlesize": self.font_pt,
            "lines.linewidth": self.line_pt,
            "lines.markersize": 3.5 * self.scale,
            "axes.linewidth": 0.6 * self.scale,
            "axes.edgecolor": "#444444",
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.5 * self.scale,
            "xtick.major.width": 0.6 * self.scale,
            "ytick.major.width": 0.6 * self.scale,
            "xtick.major.size": 2.5 * self.scale,
            "ytick.major.size": 2.5 * self.scale,
            "legend.frameon": False,
            "legend.handlelength": 2.6,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.dpi": 100,
            "savefig.dpi": self.raster_dpi,
            "text.usetex": False,
            "axes.unicode_minus": True,
            "pdf.fonttype": 42,  # journals refuse Type 3 fonts
            "pdf.compression": 6,
            "svg.fonttype": "path",
            "svg.hashsalt": "gauntlet",
            "path.simplify": False,
        }

    def figure(
        self, rows: int, columns: int, *, height_in: float, wide: bool = True, **subplots: Any
    ) -> tuple[Figure, Any]:
        """Create a figure as wide as one column, or two, with axes (rows, columns); `height_in` is that on paper."""
        width = self.two_columns_in if wide else self.one_column_in
        figure = Figure(figsize=(width, height_in * self.scale), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


STYLES = MappingProxyType(
    {
        "paper": Style(),
        "slides": Style(one_column_in=6.0, two_columns_in=12.0, font_pt=15.0, line_pt=2.8, raster_dpi=160),
    }
)
"""The styles by name. Slides measure 13.3 in by 7.5; a figure of two columns is as wide as one."""


def find_style(name: str) -> Style:
    """Return a style by name. Raises InputError that suggests the nearest name."""
    if name not in STYLES:
        raise InputError(f"no style '{name}'", remedy=nearest(name, STYLES))
    return STYLES[name]


@contextmanager
def apply_style(style: Style) -> Iterator[None]:
    """Replace all matplotlib settings by those of a style, and restore them afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, style.rc()))
        yield


def line_style(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Return color, line and marker of a variant, by its position in the configuration: the same in every figure."""
    index = list(variants).index(variant)
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": _LINES[index % len(_LINES)],
        "marker": _MARKERS[index % len(_MARKERS)],
    }


def norm_label(norm: str) -> str:
    """Return a norm in mathtext."""
    return NORM_LATEX.get(norm, plain(norm))


def plain(text: str) -> str:
    """Escape dollar signs, so that matplotlib does not read a name as mathtext."""
    return text.replace("$", r"\$")


def legend_rows(names: Sequence[str], style: Style, *, wide: bool) -> tuple[int, int]:
    """Return the columns and rows in which a legend with these names fits above a figure."""
    width = style.two_columns_in if wide else style.one_column_in
    entry_em = 4.2 + style.letter_em * max(map(len, names), default=0)  # line, gaps, letters
    columns = int(width * 72 / (entry_em * style.font_pt))
    columns = max(1, min(columns, len(names)))
    rows = -(-len(names) // columns)
    return max(1, -(-len(names) // max(1, rows))), rows


def legend_above(figure: Figure, handles: Mapping[str, Any], style: Style, *, wide: bool) -> None:
    """Draw one legend for all panels above them, in as many rows as it needs."""
    figure.legend(
        list(handles.values()),
        [plain(label) for label in handles],
        loc="outside upper center",
        ncols=legend_rows(list(handles), style, wide=wide)[0],
        columnspacing=1.4,
        handletextpad=0.5,
    )


def note_below(figure: Figure, parts: Sequence[str], style: Style, *, wide: bool) -> None:
    """Write a note below the panels: as many parts per line as fit, or one line per part in a narrow figure."""
    lines: list[str] = []
    for part in filter(None, parts):
        longer = f"{lines[-1]}   ·   {part}" if lines else part
        if lines and wide and text_width_in(longer, style.small_pt) <= 0.98 * style.two_columns_in:
            lines[-1] = longer
        else:
            lines.append(part)
    text = "\n".join(lines)
    figure.supxlabel(text, fontsize=style.small_pt, color="#444444", x=0.01, ha="left", linespacing=1.4)


def add_note(figure: Figure, text: str, style: Style) -> None:
    """Write a note in a line of its own, below the notes that a figure has."""
    note_below(figure, [figure.get_supxlabel(), text], style, wide=False)


def hide_unused(axes: Sequence[Axes]) -> None:
    """Hide panels without content."""
    for panel in axes:
        panel.set_axis_off()
