"""Figure files: deterministic, marked, independent of matplotlib's settings."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace

import matplotlib
import pyarrow as pa
import pytest
from PIL import Image

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_table, write_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import AttackDesign, certified_accuracies, measure_effects
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.catalog import TOUR
from gauntlet.reporting.figures.drawing import draw, write_figure
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs, HistoryFile
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.robustness.diagnostics.checks import add_verdicts
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic
from tests.support.grids import grid_of

MARK = "gauntlet-cell:sha256:" + "0123456789abcdef" * 4
NAMES = FIGURES.names()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Write a small experiment with every kind of table."""
    transfer = AttackDesign("from_softmax", "linf", (0.1,), without=("softmax",), sources=("softmax",))
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1), (*synthetic.ATTACKS[1:5], transfer))
    plan = replace(
        plan, grids=(grid_of("{loss}", {name: (number,) for number, name in enumerate(plan.variants)}, loss=2),)
    )
    made = synthetic.write_experiment(tmp_path_factory.mktemp("experiment"), plan, samples=60)
    diagnostics = made.summary.with_name("diagnostics.parquet")
    measured = [Measurement("one_step_beats_many", "linf", 0.03, 3), Measurement("zero_gradients", None, 0.0)]
    tables = [measurement_table(measured, experiment="digits", variant=name, seed=0) for name in plan.variants]
    write_table(diagnostics, add_verdicts(pa.concat_tables(tables)), {})
    effects = made.summary.with_name("effects.parquet")
    certified = certified_accuracies(made.certificates)
    measured_effects = measure_effects(made.evaluations, read_table(made.summary), made.certificates, certified)
    write_table(effects, measured_effects, {})
    return FigureInputs(
        plan.variants,
        made.evaluations,
        made.summary,
        made.certificates,
        tuple(HistoryFile(variant, seed, path) for (variant, seed), path in made.histories.items()),
        tuple(ExamplesFile(*key, path) for key, path in made.examples.items()),
        diagnostics=diagnostics,
        effects=effects,
        inspections=synthetic.write_inspections(made.summary.with_name("inspections"), plan.variants),
    )


def test_an_experiment_has_every_figure_whose_tables_it_has(inputs):
    """A figure can be drawn if its tables exist."""
    assert available_figures(inputs) == list(TOUR)
    assert sorted(TOUR) == NAMES
    without = FigureInputs(inputs.variants, evaluations=inputs.evaluations, summary=inputs.summary)
    assert "robust_accuracy" in available_figures(without)
    assert {"training_curves", "certificate_distance", "adversarial_examples"}.isdisjoint(available_figures(without))


@pytest.fixture(scope="module")
def rendered(inputs, tmp_path_factory):
    """Draw a figure in every format, once."""
    folder = tmp_path_factory.mktemp("figures")
    return functools.cache(lambda name: write_figure(name, inputs, folder, mark=MARK))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_tables_give_the_same_bytes(name, inputs, rendered, tmp_path):
    """Drawing twice gives equal files, and a byte search finds each file's mark.

    What a figure itself draws differently is in its SVG too; the other formats are compared for figures with lines,
    with images and with both.
    """
    first = rendered(name)
    formats = ("pdf", "svg", "png") if name in ("robust_accuracy", "adversarial_examples", "unit_fits") else ("svg",)
    assert [path.name for path in first] == [f"{name}.pdf", f"{name}.svg", f"{name}.png"]
    for other in write_figure(name, inputs, tmp_path, formats=formats, mark=MARK):
        assert other.read_bytes() == (first[0].parent / other.name).read_bytes(), other.name
    for path in first:
        content = path.read_bytes()
        assert MARK.encode() in content[: 1 << 16] + content[-(1 << 16) :], path.name


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_no_time_and_no_place(name, inputs, rendered):
    """Files hold neither dates nor folders of the machine."""
    pdf, svg, _ = rendered(name)
    assert b"CreationDate" not in pdf.read_bytes()
    assert b"<dc:date>" not in svg.read_bytes()
    for path in (pdf, svg):
        assert str(path.parent).encode() not in path.read_bytes()
        assert str(inputs.summary.parent).encode() not in path.read_bytes()


def test_another_process_gives_the_same_bytes(inputs, tmp_path):
    """Hash seeds and earlier figures make no difference."""
    (here,) = write_figure("heat_map", inputs, tmp_path / "here", formats=("svg",), mark=MARK)
    code = (
        "import sys; from pathlib import Path; from gauntlet.reporting.figures.drawing import write_figure\n"
        "from gauntlet.reporting.figures.inputs import FigureInputs\n"
        "rows, summary, out, mark, *variants = sys.argv[1:]\n"
        "inputs = FigureInputs(tuple(variants), Path(rows), Path(summary))\n"
        "write_figure('heat_map', inputs, Path(out), formats=('svg',), mark=mark)\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    arguments = [str(inputs.evaluations), str(inputs.summary), str(tmp_path / "there"), MARK, *inputs.variants]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (tmp_path / "there" / "heat_map.svg").read_bytes() == here.read_bytes()


def test_settings_of_matplotlib_neither_leak_in_nor_out(inputs, tmp_path):
    """A user's settings do not change a figure, and drawing does not change them."""
    (plain,) = write_figure("robust_accuracy", inputs, tmp_path / "plain", formats=("svg",))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        (disturbed,) = write_figure("robust_accuracy", inputs, tmp_path / "disturbed", formats=("svg",))
        assert dict(matplotlib.rcParams) == before
    assert plain.read_bytes() == disturbed.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_figures_fit_a_paper_column(name, inputs):
    """Each figure is one or two columns wide, so that its fonts are not scaled."""
    width, height = draw(name, inputs).get_size_inches()
    assert width in (3.4, 7.0)
    assert height <= 9.5


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_at_the_edge(name, rendered):
    """Every figure has a white edge."""
    image = Image.open(rendered(name)[2]).convert("L")
    width, height = image.size
    edges = [(0, 0, width, 2), (0, height - 2, width, height), (0, 0, 2, height), (width - 2, 0, width, height)]
    assert all(image.crop(edge).getextrema() == (255, 255) for edge in edges)


def test_missing_tables_are_named(tmp_path):
    """A figure without its tables names them and writes no file."""
    with pytest.raises(InputError, match=r"certificate_distance.*certificates, evaluations"):
        write_figure("certificate_distance", FigureInputs(("a",)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_figure_gets_the_nearest_name(inputs, tmp_path):
    """A misspelt figure is refused with the right name."""
    with pytest.raises(InputError, match="robust_accuracy"):
        write_figure("robust_acuracy", inputs, tmp_path)


@pytest.mark.parametrize("mark", ["a<b", "a&b", "(x)", "back\\slash", "é", "line\nbreak"])
def test_marks_that_a_format_would_escape_are_refused(mark, inputs, tmp_path):
    """A mark that could not be found as raw bytes is refused before drawing."""
    with pytest.raises(ValueError, match="mark"):
        write_figure("heat_map", inputs, tmp_path, mark=mark)


def test_an_unknown_format_is_refused(inputs, tmp_path):
    """Only formats with deterministic metadata are written."""
    with pytest.raises(ValueError, match="jpg"):
        write_figure("heat_map", inputs, tmp_path, formats=("jpg",))


def test_inputs_are_found_next_to_the_results(inputs, tmp_path):
    """The tables around a results file are found, with ids from folder names."""
    results = tmp_path / "digits"
    placed = {
        "evaluations.parquet": inputs.evaluations,
        "certificates.parquet": inputs.certificates,
        "models/variant=softmax/seed=1/history.parquet": inputs.histories[1].path,
        "evaluations/variant=softmax/seed=1/attack=cw/examples.safetensors": inputs.examples[2].path,
        "inspections/variant=softmax/seed=0/inspection.parquet": inputs.inspections[0].path,
    }
    for name, source in placed.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_bytes(source.read_bytes())
    found = find_inputs(results / "evaluations.parquet")
    assert found.variants == inputs.variants
    assert found.summary is None
    assert found.certificates == results / "certificates.parquet"
    assert [(item.variant, item.seed) for item in found.histories] == [("softmax", 1)]
    assert [(item.variant, item.seed, item.attack) for item in found.examples] == [("softmax", 1, "cw")]
    assert [(item.variant, item.seed) for item in found.inspections] == [("softmax", 0)]
