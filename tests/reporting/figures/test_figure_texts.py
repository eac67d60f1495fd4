"""Texts of figures are whole and apart, with several variants of long titles and classes of long names."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.text import Text

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import STYLES
from tests.support import synthetic

TITLES = {
    "relu": "relu, plain",
    "relu_pgd": "relu, PGD training",
    "relog": "relog, plain",
    "relog_pgd": "relog, PGD training",
    "lipschitz": "A rather long title of a 1-Lipschitz network",
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASSES = tuple(f"{number} - {name}" for number, name in enumerate(NUMBERS))


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """Return five inspected variants."""
    inspections = synthetic.write_inspections(tmp_path_factory.mktemp("inspections"), tuple(TITLES))
    return FigureInputs(tuple(TITLES), inspections=inspections, titles=TITLES, classes=CLASSES)


def boxes(figure):
    """Return the extents of all visible texts in pixels, by text and position, once the layout is computed."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    drawn = [text for text in texts if text.axes is None or text.axes.axison]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in drawn]


def cut_texts(figure):
    """List the texts that reach over the edge of a figure."""
    edge = figure.bbox
    return [
        name
        for name, box in boxes(figure)
        if box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
    ]


def overlapping_texts(figure):
    """List the pairs of texts with a common area of more than a pixel."""
    return [
        (one, two)
        for (one, first), (two, second) in combinations(boxes(figure), 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    ]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_upright_names_of_classes_end_above_the_next_panel(inspected, style, count):
    """They had less room than they needed, with several rows of panels."""
    figure = draw("unit_patterns", inspected.only(inspected.variants[:count]), style=STYLES[style])
    assert figure.axes[0].get_xticklabels()[0].get_rotation() == 90
    assert cut_texts(figure) == []
    assert overlapping_texts(figure) == []
