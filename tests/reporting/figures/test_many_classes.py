"""Figures of 1000 classes: they draw and name few classes, each by a name of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.labels import class_labels
from tests.support import synthetic

CLASSES = 1000
NAMES = tuple(f"a class with a long name, number {number}" for number in range(CLASSES))
PASSED = {2: 0.5, 3: 0.25, 4: 0.25, 5: 0.22, 6: 0.15, 7: 0.97, 8: 0.95, 9: 0.93}
"""Highest probabilities of classes that the line between two images passes, all in its middle; that of 6 is too low."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Yield one certified variant and its inspection."""
    folder = tmp_path_factory.mktemp("many")
    plan = synthetic.plan(("lipschitz",), (0,), synthetic.ATTACKS[3:4])
    made = synthetic.write_experiment(folder, plan, samples=60, classes=CLASSES)
    inspections = folder / "inspections"
    return FigureInputs(
        plan.variants,
        made.evaluations,
        made.summary,
        made.certificates,
        examples=tuple(ExamplesFile(*key, path) for key, path in made.examples.items()),
        inspections=synthetic.write_inspections(inspections, plan.variants, classes=CLASSES, passed=PASSED),
        classes=NAMES,
    )


def overlaps(boxes):
    """List the pairs of boxes with a common area, of which a tenth of the height of a letter does not count."""
    return [
        (first, second)
        for first, second in combinations(boxes, 2)
        if min(first.x1, second.x1) > max(first.x0, second.x0)
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.1 * first.height
    ]


def test_a_transition_draws_the_likeliest_classes_and_names_them_apart(inputs):
    """Those that reach 0.2 are named, in the panel and on no other name; of the others 20 are drawn."""
    figure = draw("image_transition", inputs)
    figure.canvas.draw()
    below = figure.axes[1]
    boxes = [text.get_window_extent() for text in below.texts]
    assert len(boxes) == 9
    assert len(below.lines) == 9 + 20
    assert overlaps(boxes) == []
    frame = below.get_window_extent()
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    assert len({text.get_color() for text in below.texts}) == 7, "as many colors as there are"


def test_one_image_per_class_says_how_many_classes_are_left_out(inputs):
    """Below the images; if all are drawn, nothing is said."""
    few, all_drawn = (draw("class_examples", inputs, options={"most_classes": most}) for most in (3, 999))
    assert [text.get_text().count("the first 3 of 12 classes") for text in few.texts] == [0, 1]
    assert not any("the first" in text.get_text() for text in all_drawn.texts)


def test_names_that_are_cut_to_the_same_text_get_their_numbers(inputs):
    """Other names stay as they are."""
    arguments = {"width_in": 0.6, "size_pt": 6}
    first, second = class_labels(inputs, [3, 512], **arguments)
    assert first != second
    assert first.startswith("3: ")
    assert second.startswith("512: ")
    assert class_labels(inputs, [3, 3], **arguments)[0].startswith("a class")
    short = replace(inputs, classes=("cat", "dog"))
    assert class_labels(short, [0, 1], **arguments) == ["cat", "dog"]
