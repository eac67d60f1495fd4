"""Histograms of confidence and distributions of budgets against counts of rows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.collections import LineCollection

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.paired_plots import draw_differences
from gauntlet.reporting.figures.paired_samples import PairedSamples
from gauntlet.reporting.figures.style import STYLES
from tests.support import synthetic

VARIANTS = ("softmax", "ecc", "lipschitz")
PGD = synthetic.ATTACKS[1]
NOISE = replace(synthetic.ATTACKS[5], noise=True)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two norms, a grid in one and distances in the other, and noise."""
    plan = synthetic.plan(VARIANTS, (0, 1), (PGD, synthetic.ATTACKS[4], NOISE))
    return synthetic.write_experiment(tmp_path_factory.mktemp("made"), plan, samples=70)


def _rows(experiment, **wanted):
    rows = pq.read_table(experiment.evaluations).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_histograms_are_shares_of_the_images_of_their_kind(experiment):
    """All clean images, the images that fooled, and every image of noise; each kind adds up to 100 %."""
    figure = draw("confidence", FigureInputs(VARIANTS, experiment.evaluations, experiment.summary))
    for variant, axes in zip(VARIANTS, figure.axes, strict=False):
        clean, adversarial, noise = (patch.get_data() for patch in axes.patches)
        attacked, noisy = (
            _rows(experiment, variant=variant, attack="pgd"),
            _rows(experiment, variant=variant, attack="noise"),
        )
        for drawn, values in (
            (clean, [row["clean_confidence"] for row in attacked]),
            (adversarial, [row["adversarial_confidence"] for row in attacked if row["status"] == "adversarial"]),
            (noise, [row["adversarial_confidence"] for row in noisy if row["status"] != "already_wrong"]),
        ):
            counts, _ = np.histogram(values, bins=20, range=(0, 1))
            np.testing.assert_allclose(drawn.values, 100 * counts / len(values))
    assert "adversarial: pgd" in figure._supxlabel.get_text()
    assert "noise: noise" in figure._supxlabel.get_text()


def test_an_experiment_without_noise_has_two_histograms(tmp_path):
    """Kinds without images are neither drawn nor in the legend; maximized confidence needs no note."""
    plan = synthetic.plan(("ecc",), (0,), (replace(PGD, maximizes="confidence"),))
    experiment = synthetic.write_experiment(tmp_path, plan, samples=40)
    figure = draw("confidence", FigureInputs(("ecc",), experiment.evaluations, experiment.summary))
    assert len(figure.axes[0].patches) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean", "adversarial"]
    assert "not maximized" not in figure._supxlabel.get_text()


def _smallest(experiment, variant, norm):
    smallest = {}
    for row in _rows(experiment, variant=variant, norm=norm):
        epsilon = np.inf if row["epsilon"] is None else row["epsilon"]
        key = row["seed"], row["index"]
        smallest[key] = min(epsilon, smallest.get(key, np.inf))
    return smallest


def test_samples_are_paired_under_their_own_seed(experiment):
    """Each pair of neighbors has the shares of samples with a larger and a smaller ε under the next variant."""
    figure = draw("paired_budgets", FigureInputs(VARIANTS, experiment.evaluations))
    lines, differences = figure.axes
    assert (lines.get_ylabel(), differences.get_xlabel()) == (
        r"Smallest ε that fools, $\ell_\infty$",
        r"Difference of ε in $\ell_2$",
    )
    for norm, texts in (("linf", lines.texts), ("l2", [text for text in differences.texts if "%" in text.get_text()])):
        assert len(texts) == len(VARIANTS) - 1
        for text, first, second in zip(texts, VARIANTS, VARIANTS[1:], strict=False):
            before, after = _smallest(experiment, first, norm), _smallest(experiment, second, norm)
            larger = 100 * np.mean([after[key] > before[key] for key in before])
            smaller = 100 * np.mean([after[key] < before[key] for key in before])
            assert text.get_text().replace("\n", " ").startswith(f"+{larger:.0f} % −{smaller:.0f} %")


def test_lines_lead_from_budget_to_budget(experiment):
    """On a grid there is one line per pair of budgets that some sample has; samples never fooled are at the top."""
    axes = draw("paired_budgets", FigureInputs(VARIANTS[:2], experiment.evaluations)).axes[0]
    before, after = (_smallest(experiment, variant, "linf") for variant in VARIANTS[:2])
    heights = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    place = {0.0: heights["wrong"], np.inf: heights["never fooled"]}
    place |= {value: heights[f"{value:g}"] for value in PGD.epsilons if f"{value:g}" in heights}
    expected = {(round(place[before[key]], 6), round(place[after[key]], 6)) for key in before}
    drawn = {
        (round(float(left), 6), round(float(right), 6))
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for (_, left), (_, right) in lines.get_segments()
    }
    assert drawn == expected
    assert (heights["wrong"], heights["never fooled"]) == (0.0, 1.0)


def test_differences_of_distances_are_counted_on_either_side_of_zero(experiment):
    """Every sample with a difference is in a bin of its pair, orange below zero and blue above; black is the median."""
    axes = draw("paired_budgets", FigureInputs(VARIANTS, experiment.evaluations)).axes[1]
    halves = [patch.get_data() for patch in axes.patches]
    assert len(halves) == 2 * (len(VARIANTS) - 1)
    medians = [line.get_xdata() for line in axes.lines if line.get_color() == "black"]
    samples = []
    for row, (first, second) in enumerate(itertools.pairwise(VARIANTS)):
        before, after = _smallest(experiment, first, "l2"), _smallest(experiment, second, "l2")
        difference = np.array([after[key] - before[key] for key in before])
        for half, sign in zip(halves[2 * row : 2 * row + 2], (-1, 1), strict=True):
            assert (sign * half.edges >= 0).all()
            expected, _ = np.histogram(difference[sign * difference > 0], half.edges)
            heights = half.values - half.baseline
            np.testing.assert_allclose(heights * expected.sum(), heights.sum() * expected, atol=1e-6)
            samples.append((heights.sum(), expected.sum()))
        np.testing.assert_allclose(medians[row], np.sort(difference)[(len(difference) - 1) // 2])
    heights, counts = np.array(samples).T
    np.testing.assert_allclose(heights / counts, heights[0] / counts[0])


def test_samples_without_a_difference_to_draw_are_counted_in_words():
    """Those that are never fooled under one variant count as larger or smaller; the others are equal."""
    infinite = np.inf
    first = np.array([0.0, 0.2, 0.3, infinite, infinite, 0.1])
    second = np.array([0.0, 0.5, infinite, 0.4, infinite, 0.05])
    pair = PairedSamples(first, second, np.array([3.0, 1.0, 2.0, 1.0, 4.0, 1.0]))
    assert (pair.equal, pair.never_fooled) == (3, 7)
    assert (pair.larger, pair.smaller) == (25.0, pytest.approx(100 / 6))
    assert pair.median == 0.0
    mostly = PairedSamples(first[2:3], second[2:3], np.ones(1))
    assert mostly.median == infinite
    style = STYLES["paper"]
    _, panels = style.figure(1, 1, height_in=2)
    draw_differences(panels[0][0], "l2", [pair, mostly], ["a", "b", "c"], style)
    words = [text.get_text() for text in panels[0][0].texts]
    assert any(text.endswith("\n7 never fooled\n3 equal") for text in words)
    assert any("median +inf" in text for text in words)


def test_of_many_variants_the_first_are_shown_and_the_rest_said(experiment):
    """Nothing is left out in silence."""
    figure = draw("paired_budgets", FigureInputs(VARIANTS, experiment.evaluations), options={"most_variants": 2})
    assert "the first 2 of 3 variants" in figure._supxlabel.get_text()
