"""Figures of inspected models show the table of arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.catalog import tour_order
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs, InspectionFile
from gauntlet.reporting.figures.style import STYLES, line_style
from gauntlet.reporting.pictures import picture
from gauntlet.robustness.inspection.arrays import array_table
from tests.support import synthetic

VARIANTS = ("softmax", "ecc", "hydra_ecc")
NAMES = tour_order(name for name, entry in FIGURES.catalog.items() if entry.tags["reads"] == ("inspections",))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three inspected variants, the first without negatives."""
    found = synthetic.write_inspections(tmp_path_factory.mktemp("inspections"), VARIANTS)
    return FigureInputs(VARIANTS, inspections=found, titles={"ecc": "ECC"}, classes=tuple("abcdefghij"))


def only(tmp_path, *arrays):
    """Return inputs of one variant with these arrays."""
    path = tmp_path / "inspection.parquet"
    write_table(path, array_table(arrays, experiment="digits", variant="softmax", seed=0), {})
    return FigureInputs(("softmax",), inspections=(InspectionFile("softmax", 0, path),))


def titles(figure):
    """Return the panels' titles."""
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def images(axes):
    """Return the images of a panel."""
    return [np.asarray(image.get_array()) for image in axes.images]


def test_they_are_drawn_from_the_inspections_alone(inputs):
    """No other table is needed; negatives have a figure if any variant has them."""
    assert [name for name in available_figures(inputs) if name in NAMES] == NAMES
    without = replace(inputs, inspections=inputs.inspections[:1])
    assert set(NAMES) - set(available_figures(without)) == {"negative_examples", "unit_fits", "signal_depth"}


def test_one_function_of_all_variants_is_one_line(inputs):
    """Values and derivatives are drawn in the first variant's style."""
    function, slope = draw("activation_functions", inputs).axes
    (line,), (derivative,) = function.lines, slope.lines
    assert line.get_color() == line_style(VARIANTS, "softmax")["color"]
    assert np.array_equal(line.get_ydata(), np.maximum(line.get_xdata(), 0))
    assert np.array_equal(derivative.get_ydata(), derivative.get_xdata() > 0)
    assert (function.get_xlabel(), function.get_ylabel(), slope.get_ylabel()) == ("x", "f(x)", "f′(x)")


def test_functions_that_differ_name_the_variants_that_have_them(inputs, tmp_path):
    """This holds also for functions of the same name."""
    (relu,) = [one for one in synthetic.arrays("ecc") if one.kind == "activation"]
    leaky = replace(relu, values=relu.values * np.float32(0.5))
    other = only(tmp_path, leaky).inspections[0]
    figure = draw("activation_functions", replace(inputs, inspections=(other, *inputs.inspections[1:])))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["relu: softmax", "relu: ECC, hydra_ecc"]


def test_filters_are_gray_where_the_weight_is_zero(inputs, tmp_path):
    """Black and white are the variant's largest absolute weight."""
    weights = np.array([[[0.0, 2.0], [-1.0, 1.0]]], np.float32)
    one, half = (replace(synthetic.arrays("ecc")[1], values=scale * weights) for scale in (1, 0.5))
    axes = draw("first_layer_filters", only(tmp_path, one, half)).axes[0]
    assert np.allclose(images(axes)[0], [[0.5, 1.0], [0.25, 0.75]])
    assert np.allclose(images(axes)[1], [[0.5, 0.75], [0.375, 0.625]])
    assert titles(draw("first_layer_filters", inputs)) == ["softmax", "ECC", "hydra_ecc"]


def test_a_model_without_filters_has_a_note(tmp_path):
    """Nothing else is drawn."""
    figure = draw("first_layer_filters", only(tmp_path))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no weights that are images"]
    assert [text.get_text() for text in draw("activation_functions", only(tmp_path)).axes[0].texts] == ["none"]
    assert "no images of two classes" in draw("image_transition", only(tmp_path)).axes[1].texts[0].get_text()


def test_exciting_images_are_below_the_weights(inputs):
    """Eight units are followed by the classes by name."""
    axes = draw("unit_patterns", inputs).axes[0]
    drawn, shown = images(axes), synthetic.arrays("softmax")
    assert len(drawn) == 8 + 8 + 10
    units = [one.values[0] for one in shown if one.kind == "unit"]
    assert all(np.array_equal(image, unit) for image, unit in zip(drawn[8:16], units, strict=True))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["weights", "unit", "class"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list("abcdefghij")


def test_images_of_classes_are_in_color(tmp_path):
    """Three channels are shown in color; of two, each is a gray image."""
    pixels = np.random.default_rng(0).uniform(0, 1, (3, 4, 4)).astype(np.float32)
    shown = next(one for one in synthetic.arrays("ecc") if one.kind == "class")
    colored, mixed = replace(shown, values=pixels), replace(shown, values=pixels[:2])
    figure = draw("unit_patterns", only(tmp_path, colored, mixed))
    drawn = images(figure.axes[0])
    assert np.array_equal(drawn[0], pixels.transpose(1, 2, 0))
    assert np.array_equal(drawn[1], picture(pixels[:2]))
    assert "images have 2 channels" in figure.get_supxlabel()


def test_variants_with_the_same_negatives_share_a_panel(inputs, tmp_path):
    """Variants without negatives have no panel."""
    assert titles(draw("negative_examples", inputs)) == ["ECC: overlay", "hydra_ecc: overlay"]
    same = replace(inputs.inspections[1], variant="hydra_ecc")
    figure = draw("negative_examples", replace(inputs, inspections=(*inputs.inspections[:2], same)))
    assert titles(figure) == ["ECC, hydra_ecc: overlay"]
    assert len(images(figure.axes[0])) == 4


def test_the_ends_of_a_transition_are_named(inputs):
    """Five images are above the probabilities of all classes; improbable ones are gray and unnamed."""
    figure = draw("image_transition", inputs)
    assert titles(figure) == ["softmax", "ECC", "hydra_ecc"]
    above, below = figure.axes[0], figure.axes[3]
    assert len(images(above)) == 5
    assert [text.get_text() for text in below.texts] == ["a", "b"]
    lines = {tuple(line.get_ydata()[[0, -1]]): line.get_color() for line in below.lines}
    assert set(lines) == {(1, 0), (0, 1), (0, 0)}
    assert len({*lines.values()}) == 3
    assert (below.get_xlabel(), below.get_ylabel()) == ("Position on the line", "Probability")


def test_patches_are_below_the_weights_with_their_shares(inputs, tmp_path):
    """Rows are weights, mean of the top patches, and three patterns with their shares in percent."""
    axes = draw("unit_patches", inputs).axes[0]
    shown = synthetic.arrays("softmax")
    means, patches = ([one for one in shown if one.kind == kind] for kind in ("patch_mean", "patch"))
    drawn = images(axes)
    assert len(drawn) == 8 + 8 + 3 * 8
    assert all(np.array_equal(image, mean.values[0]) for image, mean in zip(drawn[8:16], means, strict=True))
    for rank in range(3):
        row = drawn[16 + 8 * rank : 24 + 8 * rank]
        assert all(np.array_equal(image, one.values[0]) for image, one in zip(row, patches[rank::3], strict=True))
    assert [text.get_text() for text in axes.texts] == ["50", "30", "20"] * 8
    assert [label.get_text() for label in axes.get_yticklabels()][2:] == ["pattern 1", "pattern 2", "pattern 3"]
    assert "no pixels" in draw("unit_patches", only(tmp_path)).axes[0].texts[0].get_text()


def test_weak_activations_are_drawn_as_curves_and_numbers(inputs, tmp_path):
    """The curve is the mean over layers; the legend has the shares that are off and weak."""
    figure = draw("leaky_activations", inputs)
    left, right = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == [
        "softmax: off 40, weak 8",
        "ECC: off 40, weak 8",
    ]
    curve, *_ = left.lines
    assert np.allclose(curve.get_xdata(), np.arange(21) / 20)
    assert np.allclose(curve.get_ydata(), 100 * np.linspace(0.4, 1, 21))
    assert np.allclose(right.lines[0].get_xdata(), [1, 2, 3])
    assert np.allclose(right.lines[0].get_ydata(), [6, 8, 10])
    without = draw("leaky_activations", only(tmp_path))
    assert [text.get_text() for text in without.axes[0].texts] == ["none"]
    assert "no scalar activation function: softmax" in without.get_supxlabel()


def test_a_plane_shows_activations_classes_and_images(inputs, tmp_path):
    """Rows go upwards from x to z, and regions are named by their class."""
    corners, activation, decision = draw("image_plane", inputs).axes[:3]
    shown = {one.kind: one.values for one in synthetic.arrays("softmax") if one.kind in ("plane", "decision")}
    assert np.array_equal(images(activation)[0], shown["plane"])
    assert activation.images[0].origin == decision.images[0].origin == "lower"
    assert np.array_equal(images(decision)[0], shown["decision"])
    assert [text.get_text() for text in decision.texts] == ["a", "b"]
    assert len(images(corners)) == 3
    assert [label.get_text() for label in activation.get_yticklabels()] == ["x", "z"]
    assert "fewer than three images" in draw("image_plane", only(tmp_path)).axes[1].texts[0].get_text()


def test_every_kind_of_layer_is_drawn_once(inputs):
    """Two variants with equal layers share a panel and a line, and the legend has the number of layers."""
    figure = draw("signal_depth", inputs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "linear relu: 32 layers",
        "linear relog(2): all 100",
    ]
    left, right = figure.axes
    assert np.allclose(left.lines[0].get_ydata(), 16.0 ** np.arange(32))
    assert [line.get_xdata()[0] for line in left.lines if line.get_marker() == "x"] == [31]
    assert np.allclose(right.lines[1].get_ydata(), 1)
    fits = draw("unit_fits", inputs)
    drawn = [axes for axes in fits.axes if axes.images]
    assert titles(fits)[:2] == ["linear relu: 50 %", "linear relog(2): 50 %"]
    assert [title.split(" of ")[1] for title in titles(fits)[2:]] == ["a + b", "min(a, b)", "max(a, b)"]
    shown = {one.kind: one.values for one in synthetic.arrays("softmax")}
    assert np.array_equal(images(drawn[0])[0], shown["dots"])
    assert all(np.array_equal(images(axes)[0], values) for axes, values in zip(drawn[2:], shown["logic"], strict=True))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Inspections of forty variants."""
    names = tuple(f"variant_{number}" for number in range(40))
    return FigureInputs(names, inspections=synthetic.write_inspections(tmp_path_factory.mktemp("many"), names))


@pytest.mark.parametrize("name", NAMES)
def test_many_variants_fit_on_a_page(name, inputs, many):
    """The note states how many are shown, and slides have the same layout."""
    figure = draw(name, many)
    assert figure.get_size_inches()[1] <= 9.5
    assert "of 40 variants" in figure.get_supxlabel()
    for drawn in (inputs, replace(inputs, variants=("ecc",))):
        small, large = (draw(name, drawn, style=STYLES[style]).get_size_inches() for style in ("paper", "slides"))
        assert large[0] / large[1] == pytest.approx(small[0] / small[1], rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_that_was_not_inspected_is_named(name, inputs):
    """It is not silently left out."""
    figure = draw(name, replace(inputs, inspections=(inputs.inspections[0], inputs.inspections[2])))
    assert "not inspected: ECC" in figure.get_supxlabel()


def test_of_several_seeds_the_first_is_shown(inputs, tmp_path):
    """The order of inspections does not matter."""
    weights = np.ones((1, 2, 2), np.float32)
    other = only(tmp_path, replace(synthetic.arrays("ecc")[1], values=weights)).inspections[0]
    seeds = (replace(other, seed=1), inputs.inspections[0])
    axes = draw("first_layer_filters", FigureInputs(("softmax",), inspections=seeds)).axes[0]
    assert len(images(axes)) == 8
    axes = draw("first_layer_filters", FigureInputs(("softmax",), inspections=(other, replace(seeds[1], seed=1)))).axes[
        0
    ]
    assert len(images(axes)) == 1


@pytest.mark.parametrize("name", ["unit_fits", "signal_depth"])
def test_a_figure_of_layer_designs_says_that_there_are_none(tmp_path, name):
    """Drawn by name for an experiment that varies no layers, it says so in place of a blank page."""
    figure = draw(name, only(tmp_path))
    assert any("other than the default" in text.get_text() for axes in figure.axes for text in axes.texts)
