"""Panels that are divided into facets where the inputs have facets, and are single axes where not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gauntlet.reporting.figures.facets import Facets
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, legend_above, legend_rows, plain
from gauntlet.reporting.footnotes import footnote_marks

_FACET_IN = 1.02
_HEAD_IN = 0.62


@dataclass(frozen=True)
class Block:
    """The axes of one panel: one, or one per facet, as rows and columns `grid`; all have the same scale."""

    grid: Any
    facets: Facets | None

    @property
    def axes(self) -> list[Axes]:
        """All axes of the panel."""
        return list(self.grid.flat)

    def of(self, variant: str) -> list[Axes]:
        """Return the axes that a variant is drawn in."""
        place = self.facets.places[variant] if self.facets else None
        return self.axes if place is None else [self.grid[place]]

    def label_facets(self) -> None:
        """Leave each label of the axes once, and write the levels above the columns and to the right of the rows."""
        if self.facets is None:
            return
        last, middle = len(self.facets.rows) - 1, len(self.facets.rows) // 2
        for (row, column), axes in _enumerated(self.grid):
            title = axes.get_title(loc="left") if column == 0 else ""
            head = plain(self.facets.columns[column])
            axes.set_title(f"{title}\n{head}" if row == 0 else "", loc="left")
            axes.xaxis.set_tick_params(label1On=row == last)
            axes.yaxis.set_tick_params(label1On=column == 0)
            # The label of a narrow facet reaches over its neighbors.
            axes.set_xlabel(axes.get_xlabel() if (row, column) == (last, 0) else "", loc="left")
            axes.set_ylabel(axes.get_ylabel() if (row, column) == (middle, 0) else "")
            if column == len(self.facets.columns) - 1 and self.facets.rows[row]:
                axes.annotate(
                    plain(self.facets.rows[row]), (1.03, 0.5), xycoords="axes fraction", rotation=270, va="center"
                )


def _enumerated(grid: Any) -> Iterator[tuple[tuple[int, int], Axes]]:
    for row, line in enumerate(grid):
        for column, axes in enumerate(line):
            yield (row, column), axes


def panel_blocks(
    inputs: FigureInputs,
    count: int,
    columns: int,
    *,
    style: Style,
    height_in: float,
    legend: list[str],
    wide: bool,
    **subplots: Any,
) -> tuple[Figure, list[Block]]:
    """Create a figure of `count` panels, `columns` next to each other, or one below the other if they have facets.

    `height_in` is the height without the legend, whose entries are `legend` where there are no facets.
    """
    facets = inputs.facets
    legend_in = style.legend_row_in * legend_rows(legend_labels(inputs, legend), style, wide=wide or bool(facets))[1]
    if facets is None:
        rows = -(-max(1, count) // columns)
        figure, grid = style.figure(rows, columns, height_in=height_in + legend_in, wide=wide, **subplots)
        hide_unused(list(grid.flat)[max(1, count) :])
        blocks = [
            Block(grid[n // columns : n // columns + 1, n % columns : n % columns + 1], None) for n in range(count)
        ]
        return figure, blocks
    rows = len(facets.rows)
    height = legend_in + max(1, count) * (_HEAD_IN + _FACET_IN * rows) + 0.2
    figure, grid = style.figure(max(1, count) * rows, len(facets.columns), height_in=height)
    blocks = [Block(grid[number * rows : (number + 1) * rows], facets) for number in range(count)]
    for block in blocks:
        first, *others = block.axes
        for axes in others:
            axes.sharex(first)
            axes.sharey(first)
    return figure, blocks


def marked_note(inputs: FigureInputs, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a note on the variants with footnote marks, which facets cannot mark; empty where the legend marks them.

    `rows` are those of the summary.
    """
    if inputs.facets is None:
        return ""
    marked: dict[str, set[str]] = {}
    for row in rows:
        for mark in footnote_marks([row]):
            marked.setdefault(mark, set()).add(row["variant"])
    counts = [f"{mark} {len(names)} of {len(inputs.variants)} variants" for mark, names in marked.items()]
    return f"{', '.join(counts)}: see the tables" if counts else ""


def legend_labels(inputs: FigureInputs, labels: list[str]) -> list[str]:
    """Return the labels of the legend: the levels of facets, or `labels` without facets."""
    return list(inputs.facets.legend) if inputs.facets else labels


def variant_legend(
    figure: Figure, inputs: FigureInputs, handles: Mapping[str, Any], style: Style, *, wide: bool
) -> None:
    """Draw the legend above the figure: of the levels that facets show in their lines, else of `handles`."""
    if inputs.facets is None:
        legend_above(figure, handles, style, wide=wide)
    else:
        lines = {label: Line2D([], [], **look) for label, look in inputs.facets.legend.items()}
        legend_above(figure, lines, style, wide=True)
