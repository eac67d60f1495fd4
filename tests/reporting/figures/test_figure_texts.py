"""Texts of figures are whole and apart, with several variants of long titles and classes of long names."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import AttackDesign
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs, InspectionFile
from gauntlet.reporting.figures.labels import join_titles, variant_labels
from gauntlet.reporting.figures.style import STYLES
from gauntlet.robustness.inspection.arrays import array_table
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
SLANTED = (35,)


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """Return five inspected variants."""
    inspections = synthetic.write_inspections(tmp_path_factory.mktemp("inspections"), tuple(TITLES))
    return FigureInputs(tuple(TITLES), inspections=inspections, titles=TITLES, classes=CLASSES)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """Return five attacked variants with two seeds, a transfer from the first one, and an attack without budgets."""
    folder = tmp_path_factory.mktemp("attacked")
    attacks = (
        AttackDesign("pgd", "linf", (0.01, 0.03, 0.1)),
        AttackDesign("transfer", "linf", (0.03,), without=("relu",), sources=("relu",)),
        AttackDesign("cw", "l2", None),
    )
    plan = replace(synthetic.plan(tuple(TITLES), (0, 1), attacks), certificates=())
    made = synthetic.write_experiment(folder, plan, samples=60)
    examples = tuple(ExamplesFile(*key, path) for key, path in made.examples.items() if key[2] == "cw")
    return FigureInputs(
        plan.variants, made.evaluations, made.summary, examples=examples, titles=TITLES, classes=CLASSES
    )


def boxes(figure, *, slanted=False):
    """Return the extents of all visible texts in pixels, by text and position, once the layout is computed."""
    # A second layout would differ, and files have the first one.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    drawn = [text for text in texts if text.axes is None or text.axes.axison]
    slants = SLANTED if slanted else ()
    return [
        (text.get_text(), text.get_window_extent(renderer)) for text in drawn if text.get_rotation() in (0, 90, *slants)
    ]


def cut_texts(figure):
    """List the texts that reach over the edge of a figure."""
    edge = figure.bbox
    return [
        name
        for name, box in boxes(figure, slanted=True)
        if box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
    ]


def overlapping_texts(figure):
    """List the pairs of texts with a common area of more than a pixel; boxes of slanted texts are larger than these."""
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


@pytest.mark.parametrize("name", ["transfer_matrix", "prediction_bars", "robust_accuracy"])
def test_texts_of_figures_of_attacks_are_whole(attacked, name):
    """The label of a matrix with one source was cut, and so were notes longer than the figure."""
    assert cut_texts(draw(name, attacked)) == []


def test_the_frame_of_a_transfer_is_its_cell(attacked):
    """It was narrower."""
    (frame,) = draw("transfer_matrix", attacked).axes[0].patches
    assert frame.get_bbox().bounds == (-0.5, -0.5, 1, 1)


def test_names_of_regions_are_apart(tmp_path):
    """They covered each other where regions are narrow."""
    classes = np.full((17, 17), 7.0, np.float32)
    classes[:8] = [0] * 5 + [8] * 3 + [1] * 9
    arrays = [one if one.kind != "decision" else replace(one, values=classes) for one in synthetic.arrays("relu")]
    path = tmp_path / "inspection.parquet"
    write_table(path, array_table(arrays, experiment="digits", variant="relu", seed=0), {})
    figure = draw(
        "image_plane", FigureInputs(("relu",), inspections=(InspectionFile("relu", 0, path),), classes=CLASSES)
    )
    assert overlapping_texts(figure) == []
    named = [text.get_text() for text in figure.axes[2].texts]
    assert sorted(named) == ["0 - zero", "1 - one", "7 - seven", "8 - eight"]
    inspections = (InspectionFile("relu", 0, path),)
    alike = tuple(f"a class with a long name, {number}" for number in range(10))
    axes = draw("image_plane", FigureInputs(("relu",), inspections=inspections, classes=alike)).axes[2]
    assert sorted(text.get_text()[:2] for text in axes.texts) == ["0:", "1:", "7:", "8:"]


def test_numbers_of_undrawn_samples_are_not_on_the_bars(attacked):
    """They covered the lower bars and the line at zero."""
    figure = draw("paired_budgets", attacked)
    named = boxes(figure)
    frame = figure.axes[1].get_window_extent()
    words = [box for text, box in named if "never fooled\n" in text or " equal" in text]
    assert words
    assert all(box.x0 > frame.x1 for box in words)
    assert overlapping_texts(figure) == []
    assert cut_texts(figure) == []


def test_an_attack_at_one_budget_is_a_hollow_mark(attacked):
    """No line was drawn for it, nor any mark."""
    figure = draw("robust_accuracy", attacked)
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert [(list(line.get_xdata()), line.get_markerfacecolor()) for line in marks] == [([0.03], "none")] * 4
    assert "thin, hollow marks: single attacks" in figure.get_supxlabel()


def test_two_seeds_have_no_band(attacked):
    """The t-interval over two seeds covers the panel; a note states that there is none."""
    figure = draw("robust_accuracy", attacked)
    assert not any(axes.collections for axes in figure.axes)
    assert "no bands: fewer than three seeds" in figure.get_supxlabel()


def test_titles_are_joined_by_what_none_of_them_has():
    """A comma would be read as part of a title."""
    assert join_titles(["relu", "relog"]) == "relu, relog"
    assert join_titles(["relu, plain", "relu, PGD"]) == "relu, plain; relu, PGD"
    assert join_titles(["a, b; c", "d"]) == "a, b; c | d"


def test_titles_that_agree_once_cut_lack_what_they_begin_with():
    """Titles that fit in two lines are not cut."""
    titles = {"a": "relog units with PGD training", "b": "relog units with PGD evaluation", "c": "relu"}
    inputs = FigureInputs(tuple(titles), titles=titles)
    narrow = variant_labels(inputs, list(titles), width_in=0.9, size_pt=8)
    assert narrow == ["… training", "… evaluation", "relu"]
    wide = variant_labels(inputs, list(titles), width_in=1.2, size_pt=8, lines=2)
    assert wide == ["relog units with PGD\ntraining", "relog units with PGD\nevaluation", "relu"]
