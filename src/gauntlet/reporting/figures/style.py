"""One look for all figures: sizes of a paper's columns, colours and lines that tell variants apart in grey as well."""

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

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""The palette of Okabe and Ito (2008) without its yellow, which vanishes on white paper."""

_PAPER_IN = 7.0

_LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.2, 1.5, 1.2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
NORM_LABELS = MappingProxyType({"linf": r"$\ell_\infty$", "l2": r"$\ell_2$", "l1": r"$\ell_1$", "l0": r"$\ell_0$"})


@dataclass(frozen=True)
class Style:
    """Sizes in inches and points; the default suits a paper of two columns. A letter is about `letter_em` wide."""

    one_column_in: float = 3.4
    two_columns_in: float = 7.0
    font_pt: float = 8.0
    line_pt: float = 1.5
    raster_dpi: int = 300
    letter_em: float = 0.62

    @property
    def scale(self) -> float:
        """How many times as large as on paper everything is that is not a letter."""
        return self.two_columns_in / _PAPER_IN

    @property
    def legend_row_in(self) -> float:
        """The height of a row of a legend, as `figure` takes heights."""
        return 1.55 * self.font_pt / 72 / self.scale

    @property
    def small_pt(self) -> float:
        """The size of tick labels and notes: still readable when printed."""
        return self.font_pt - 1

    def rc(self) -> dict[str, Any]:
        """Give matplotlib's settings while a figure is drawn and saved."""
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
        """Make a figure of a column's width, or of two, and its axes (rows, columns); `height_in` is that on paper."""
        width = self.two_columns_in if wide else self.one_column_in
        figure = Figure(figsize=(width, height_in * self.scale), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


STYLES = MappingProxyType(
    {
        "paper": Style(),
        "slides": Style(one_column_in=6.0, two_columns_in=12.0, font_pt=15.0, line_pt=2.8, raster_dpi=160),
    }
)
"""The styles by name; slides are those of 13.3 in by 7.5, which a figure of two columns fills in width."""


def find_style(name: str) -> Style:
    """Give a style by its name. Raises InputError that names the nearest one."""
    if name not in STYLES:
        raise InputError(f"no style '{name}'", remedy=nearest(name, STYLES))
    return STYLES[name]


@contextmanager
def settings(style: Style) -> Iterator[None]:
    """Use a style while figures are drawn or saved, whatever was set before, and leave what was set as it was."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, style.rc()))
        yield


def line_style(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Give the colour, line and marker of a variant: the same in every figure, by its place in the configuration."""
    place = list(variants).index(variant)
    return {
        "color": PALETTE[place % len(PALETTE)],
        "linestyle": _LINES[place % len(_LINES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def norm_label(norm: str) -> str:
    """Write a norm as mathematics."""
    return NORM_LABELS.get(norm, plain(norm))


def plain(text: str) -> str:
    """Keep a name from being read as mathematics."""
    return text.replace("$", r"\$")


def legend_rows(names: Sequence[str], style: Style, *, wide: bool) -> tuple[int, int]:
    """Give the columns and rows in which a legend of these names fits above a figure."""
    width = style.two_columns_in if wide else style.one_column_in
    entry_em = 4.2 + style.letter_em * max(map(len, names), default=0)  # line, gaps, letters
    columns = int(width * 72 / (entry_em * style.font_pt))
    columns = max(1, min(columns, len(names)))
    rows = -(-len(names) // columns)
    return max(1, -(-len(names) // max(1, rows))), rows


def legend_above(figure: Figure, handles: Mapping[str, Any], style: Style, *, wide: bool) -> None:
    """Put one legend for all panels above them, outside the axes, in as many rows as it needs."""
    figure.legend(
        list(handles.values()),
        [plain(label) for label in handles],
        loc="outside upper center",
        ncols=legend_rows(list(handles), style, wide=wide)[0],
        columnspacing=1.4,
        handletextpad=0.5,
    )


def note_below(figure: Figure, parts: Sequence[str], style: Style, *, wide: bool) -> None:
    """Write a note under the panels, such as what is missing: in one line, or one line a part in a narrow figure."""
    text = ("   ·   " if wide else "\n").join(part for part in parts if part)
    figure.supxlabel(text, fontsize=style.small_pt, color="#444444", x=0.01, ha="left", linespacing=1.4)


def hide_unused(axes: Sequence[Axes]) -> None:
    """Take away panels that nothing is drawn in."""
    for axis in axes:
        axis.set_axis_off()
