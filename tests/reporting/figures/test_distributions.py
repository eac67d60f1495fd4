"""Histograms of confidence, and the budgets at which samples fall, against counting rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.collections import LineCollection

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from tests.support import synthetic

VARIANTS = ("softmax", "ecc", "lipschitz")
PGD = synthetic.ATTACKS[1]
NOISE = replace(synthetic.ATTACKS[5], noise=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two norms, a grid in one and distances in the other, and noise."""
    plan = synthetic.plan(VARIANTS, (0, 1), (PGD, synthetic.ATTACKS[4], NOISE))
    return synthetic.write_experiment(tmp_path_factory.mktemp("made"), plan, samples=70)


def _rows(made, **wanted):
    rows = pq.read_table(made.evaluations).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_histograms_are_shares_of_the_images_of_their_kind(made):
    """All clean images, the images that fooled, and every image of noise; each kind adds up to 100 %."""
    figure = draw("confidence", FigureInputs(VARIANTS, made.evaluations, made.summary))
    for variant, axes in zip(VARIANTS, figure.axes, strict=False):
        clean, adversarial, noise = (patch.get_data() for patch in axes.patches)
        attacked, noisy = _rows(made, variant=variant, attack="pgd"), _rows(made, variant=variant, attack="noise")
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
    """Kinds of which there are no images are neither drawn nor in the legend; maximised confidence needs no excuse."""
    plan = synthetic.plan(("ecc",), (0,), (replace(PGD, maximises="confidence"),))
    made = synthetic.write_experiment(tmp_path, plan, samples=40)
    figure = draw("confidence", FigureInputs(("ecc",), made.evaluations, made.summary))
    assert len(figure.axes[0].patches) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean", "adversarial"]
    assert "not maximised" not in figure._supxlabel.get_text()


def _fell(made, variant, norm):
    found = {}
    for row in _rows(made, variant=variant, norm=norm):
        epsilon = np.inf if row["epsilon"] is None else row["epsilon"]
        found[row["seed"], row["index"]] = min(epsilon, found.get((row["seed"], row["index"]), np.inf))
    return found


def test_samples_are_paired_under_their_own_seed(made):
    """Above each pair of neighbours stand the shares that fall later and sooner under the next variant."""
    figure = draw("paired_budgets", FigureInputs(VARIANTS, made.evaluations))
    assert [axes.get_ylabel() for axes in figure.axes] == [r"Falls at ε in $\ell_\infty$", r"Falls at ε in $\ell_2$"]
    for axes, norm in zip(figure.axes, ("linf", "l2"), strict=True):
        for text, one, other in zip(axes.texts, VARIANTS, VARIANTS[1:], strict=False):
            before, after = _fell(made, one, norm), _fell(made, other, norm)
            later = 100 * np.mean([after[key] > before[key] for key in before])
            sooner = 100 * np.mean([after[key] < before[key] for key in before])
            assert text.get_text() == f"+{later:.0f} %\n−{sooner:.0f} %"


def test_lines_lead_from_budget_to_budget(made):
    """On a grid there is one line per pair of budgets that some sample has; those that stand are at the top."""
    axes = draw("paired_budgets", FigureInputs(VARIANTS[:2], made.evaluations)).axes[0]
    before, after = (_fell(made, variant, "linf") for variant in VARIANTS[:2])
    heights = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    place = {0.0: heights["wrong"], np.inf: heights["stands"]}
    place |= {float(np.float32(value)): heights[f"{value:g}"] for value in PGD.epsilons if f"{value:g}" in heights}
    expected = {(round(place[before[key]], 6), round(place[after[key]], 6)) for key in before}
    drawn = {
        (round(float(left), 6), round(float(right), 6))
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for (_, left), (_, right) in lines.get_segments()
    }
    assert drawn == expected
    assert (heights["wrong"], heights["stands"]) == (0.0, 1.0)


def test_of_many_variants_the_first_are_shown_and_the_rest_said(made):
    """Nothing is left out in silence."""
    figure = draw("paired_budgets", FigureInputs(VARIANTS, made.evaluations), options={"most_variants": 2})
    assert "the first 2 of 3 variants" in figure._supxlabel.get_text()
