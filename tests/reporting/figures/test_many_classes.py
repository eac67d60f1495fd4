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


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """One certified variant and its inspection."""
    folder = tmp_path_factory.mktemp("many")
    plan = synthetic.plan(("lipschitz",), (0,), synthetic.ATTACKS[3:5])
    made = synthetic.write_experiment(folder, plan, samples=80, classes=CLASSES)
    return FigureInputs(
        plan.variants,
        made.evaluations,
        made.summary,
        made.certificates,
        examples=tuple(ExamplesFile(*key, path) for key, path in made.examples.items()),
        inspections=synthetic.write_inspections(folder / "inspections", plan.variants, classes=CLASSES),
        classes=NAMES,
    )


def test_a_transition_draws_the_likeliest_classes_and_names_them_apart(inputs):
    """Those that reach 0.2 are named; of the others 20 are drawn; no name is on another."""
    below = draw("image_transition", inputs).axes[1]
    named = [text for text in below.texts if text.get_text()]
    assert len(named) == 6
    assert len(below.lines) == len(named) + 20
    heights = [text.xy[1] for text in named if 0.1 < text.xy[0] < 0.9]
    assert min(abs(one - other) for one, other in combinations(heights, 2)) > 0.08


def test_one_image_per_class_says_how_many_classes_are_left_out(inputs):
    """Below the images."""
    figure = draw("class_examples", inputs)
    assert any("the first 21 of " in text.get_text() for text in figure.texts)
    assert not any(
        "the first" in text.get_text()
        for text in draw("class_examples", replace(inputs), options={"most_classes": 999}).texts
    )


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
