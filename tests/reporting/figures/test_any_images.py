"""Figures and gallery show images of any shape, and classes of any number and name."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.labels import class_label, shorten, text_width_in
from gauntlet.reporting.page.gallery import read_gallery
from gauntlet.reporting.pictures import picture
from tests.support import synthetic

INSPECTED = (
    "first_layer_filters",
    "unit_patterns",
    "unit_patches",
    "negative_examples",
    "image_transition",
    "image_plane",
)
EXAMPLES = ("adversarial_examples", "class_examples", "prediction_bars")
STRANGE = (
    "$\\alpha$",
    "a_b^{c} 50%",
    "#1 & ~x",
    "back\\slash$",
    "猫",
    "",
    "one\ntwo\t\x00",
    "w" * 300,
    " ",
    "emoji 🐈",
)
SHAPES = [(2, 12, 10), (5, 40, 2), (12, 1, 64)]


def write(folder, shape, classes=(), number=10):
    """Write an experiment of one certified variant with images of a shape."""
    plan = synthetic.plan(("lipschitz",), (0,), synthetic.ATTACKS[4:5])
    made = synthetic.write_experiment(folder, plan, samples=40, image_shape=shape)
    inspections = synthetic.write_inspections(folder, plan.variants, image_shape=shape, classes=number)
    examples = tuple(ExamplesFile(*key, path) for key, path in made.examples.items())
    return FigureInputs(
        plan.variants,
        made.evaluations,
        made.summary,
        made.certificates,
        examples=examples,
        classes=classes,
        inspections=inspections,
    )


def drawn(name, inputs):
    """Draw a figure completely, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(name, inputs)
        figure.canvas.draw()
    return figure


def shown_texts(figure):
    """List the texts of a figure that are drawn."""
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title]
        if axes.axison:
            texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    return [text for text in texts if text.get_text()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_any_shape_are_drawn(shape, tmp_path):
    """Each figure says how images with unusual channels are shown, and the gallery has the same pictures."""
    inputs = write(tmp_path, shape)
    note = f"images have {shape[0]} channels"
    for name in (*INSPECTED, *EXAMPLES):
        figure = drawn(name, inputs)
        texts = [text.get_text() for text in (*figure.texts,)] + [figure.get_supxlabel()]
        assert any(note in text for text in texts) == (shape[0] not in (1, 3)), name
    shown = np.asarray(drawn("adversarial_examples", inputs).axes[0].images[0].get_array())
    (entry,) = read_gallery(inputs).entries
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["images"][0]["original"]))))
    assert np.array_equal(pixels, np.rint(255 * shown))
    assert shown.shape == picture(np.zeros(shape, np.float32)).shape


@pytest.mark.parametrize("name", [*INSPECTED, *EXAMPLES])
def test_class_names_of_any_form_are_drawn(name, tmp_path):
    """No name is read as mathematics, drawn as boxes, or longer than its space."""
    inputs = write(tmp_path, (1, 8, 8), STRANGE)
    figure = drawn(name, inputs)
    renderer = figure.canvas.get_renderer()
    width = figure.get_size_inches()[0] * figure.dpi
    for text in shown_texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1, text.get_text()
        assert box.x1 <= width + 1, text.get_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_long_title_of_a_variant_is_cut_to_its_space(name, tmp_path):
    """The title is next to few rows of images, so it is cut to their height; it is not read as mathematics."""
    title = "error-correcting output code of $16$ bits, four heads, trained with hinge loss and augmentation " * 2
    figure = drawn(name, replace(write(tmp_path, (1, 8, 8)), titles={"lipschitz": title}))
    renderer, height = figure.canvas.get_renderer(), figure.get_size_inches()[1] * figure.dpi
    (drawn_title,) = [text for text in shown_texts(figure) if text.get_text().startswith("error-")]
    box = drawn_title.get_window_extent(renderer)
    assert (drawn_title.get_text().endswith("…"), box.y0 >= -1, box.y1 <= height + 1) == (True, True, True)


@pytest.mark.parametrize("number", [2, 1000])
def test_any_number_of_classes_is_drawn(number, tmp_path):
    """Classes without probability have no name; 20 of them are drawn at most."""
    figure = drawn("image_transition", write(tmp_path, (1, 8, 8), number=number))
    assert [text.get_text() for text in figure.axes[1].texts] == ["0", "1"]
    assert len(figure.axes[1].lines) == min(number, 22)


def test_labels_fit_and_differ():
    """The number replaces a name that is empty or has letters that the font lacks."""
    inputs = FigureInputs(("a",), classes=STRANGE)
    labels = [class_label(inputs, number, width_in=1.0, size_pt=7) for number in range(11)]
    assert labels[:4] == [r"\$\alpha\$", "a_b^{c} 50%", "#1 & ~x", r"back\slash\$"]
    assert labels[4:7] == ["class 4", "5", "one two"]
    assert labels[7].startswith("www")
    assert labels[7].endswith("…")
    assert labels[8:] == ["8", "class 9", "10"]
    assert all(text_width_in(label, 7) <= 1.0 for label in labels)
    assert shorten("short", width_in=1.0, size_pt=7) == "short"
