"""Caches of matplotlib, filled before figures are drawn by forks of this process."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg

from gauntlet.reporting.figures.drawing import FORMATS
from gauntlet.reporting.figures.style import Style, apply_style


def fill_caches() -> None:
    """Draw a small figure into memory: matplotlib then knows the files of fonts and the grammar of its formulas."""
    style = Style()
    with apply_style(style):
        figure, ((axes,),) = style.figure(1, 1, height_in=1.0)
        axes.set_xlabel(r"$\ell_\infty$")
        axes.set_xscale("log")
        FigureCanvasAgg(figure)
        for suffix in FORMATS:
            figure.savefig(io.BytesIO(), format=suffix)
