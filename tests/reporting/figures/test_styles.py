"""Figure styles for paper and slides."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.core.errors import InputError
from gauntlet.reporting import from_results as stage
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.style import STYLES, find_style
from tests.support import synthetic


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A small experiment."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1), synthetic.ATTACKS[1:2])
    return synthetic.write_experiment(tmp_path_factory.mktemp("experiment"), plan, samples=30)


@pytest.mark.parametrize("name", ["heat_map", "paired_budgets", "adversarial_examples"])
def test_slides_are_wider_with_larger_letters_and_the_same_content(experiment, name):
    """Both sides grow alike, and the texts are the same."""
    examples = tuple(ExamplesFile(*key, path) for key, path in experiment.examples.items())
    inputs = FigureInputs(
        experiment.plan.variants, experiment.evaluations, experiment.summary, experiment.certificates, examples=examples
    )
    drawn = {style: draw(name, inputs, style=STYLES[style]) for style in ("paper", "slides")}
    small, large = (figure.get_size_inches() for figure in drawn.values())
    assert large[0] in (6.0, 12.0)
    assert large[0] / large[1] == pytest.approx(small[0] / small[1], rel=0.1)
    texts = [
        [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title)] for figure in drawn.values()
    ]
    assert texts[0] == texts[1]
    sizes = [min(text.get_fontsize() for text in figure.findobj(_is_text)) for figure in drawn.values()]
    assert sizes[1] > 1.5 * sizes[0]


def _is_text(artist):
    return bool(getattr(artist, "get_text", lambda: "")())


def test_the_style_reaches_every_figure_of_a_results_file(experiment, tmp_path, monkeypatch):
    """`gauntlet figures evaluations.parquet --style slides` applies to one figure or all."""
    styles = []
    monkeypatch.setattr(stage, "write_figure", lambda *_, style: styles.append(style) or [])
    arguments = ["figures", str(experiment.evaluations), "--out", str(tmp_path), "--style"]
    assert CliRunner().invoke(app, [*arguments, "slides"]).exit_code == 0
    assert styles
    assert set(map(id, styles)) == {id(STYLES["slides"])}


def test_an_unknown_style_gets_the_nearest_name():
    """A misspelt style is refused with the right name."""
    with pytest.raises(InputError, match="slides"):
        find_style("slide")


def test_figures_of_a_configuration_have_one_style():
    """A style is not part of the recipe, so the workflow's figures have the default one."""
    result = CliRunner().invoke(app, ["figures", "config.yaml", "--style", "slides"])
    assert isinstance(result.exception, InputError)
    assert "evaluations.parquet" in str(result.exception)
