"""A failed check marks the numbers that it concerns in every table, figure and on the page."""

from __future__ import annotations

import csv
import io
import re

import pyarrow as pa
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import (
    CERTIFIED_SCHEMA,
    certified_accuracies,
    compare_variants,
    summarize,
    summarize_diagnosed,
)
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.from_results import tables_from_results
from gauntlet.reporting.page import render_report
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables
from gauntlet.reporting.tables.summary_text import markdown_table
from gauntlet.robustness.diagnostics.checks import accuracy_flags, add_verdicts, collect_flags, flags_for
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic

CHANCE = {("lipschitz", ""): ("accuracy_at_chance",), ("softmax", "linf"): ("zero_gradients",)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """An experiment whose variant `lipschitz` is at chance, and the gradients of `softmax` masked."""
    folder = tmp_path_factory.mktemp("flags")
    design = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), synthetic.ATTACKS[:5])
    made = synthetic.write_experiment(folder, design, samples=60)
    summary = summarize(made.evaluations, flags=CHANCE)
    write_table(folder / "flagged.parquet", summary, design.metadata())
    return made, summary, FigureInputs(design.variants, made.evaluations, folder / "flagged.parquet", made.certificates)


def test_accuracy_at_chance_marks_clean_robust_and_certified_numbers(results):
    """Masked gradients mark numbers under attack only."""
    made, summary, _ = results
    certified = certified_accuracies(made.certificates, radii={"l2": (0.3,)})
    compared = compare_variants(made.evaluations, made.certificates, certified=certified)
    texts = render_tables(TableInputs(made.evaluations, summary, compared, certified))
    for row in csv.DictReader(io.StringIO(texts["table.csv"])):
        if row["variant"] == "lipschitz" and row["applies"] == "True":
            assert row["flags"] == "accuracy_at_chance", row
            assert row["best"] == "False"
        if row["measure"] != "robust" and row["variant"] == "softmax":
            assert row["flags"] == ""
    lines = {line.split(" | ")[0].strip("| "): line for line in texts["table.md"].splitlines() if line.startswith("|")}
    assert lines["lipschitz"].count("‡") == lines["lipschitz"].count("|") - 2
    assert "the accuracy is at chance" in texts["table.md"]
    assert "the accuracy is at chance" in texts["table.tex"]


def test_the_summary_page_and_figure_mark_the_clean_accuracy(results, tmp_path):
    """Each states clean accuracy with the mark of its variant."""
    made, summary, inputs = results
    clean = {row["variant"]: f"{100 * row['clean_accuracy']:.1f}" for row in summary.to_pylist()}
    certified = certified_accuracies(made.certificates)
    text = markdown_table(summary, certified=certified)
    assert f"| lipschitz | {clean['lipschitz']}‡ |" in text
    assert f"| softmax | {clean['softmax']} |" in text
    section = text[text.index("## Certified accuracy") : text.index("## Failed checks")]
    assert re.search(r"\| lipschitz \|.*\d‡", section)
    page = render_report(inputs, figures={})
    marked = f'<td><span>{clean["lipschitz"]}</span><span class="footnote">‡</span></td>'
    assert marked in page
    assert f"<td>{clean['softmax']}</td>" in page
    assert '<th scope="row">lipschitz<span class="footnote">‡</span></th>' in page
    assert '"accuracyChecks":["accuracy_at_chance"]' in page
    (figure,) = write_figure("heat_map", inputs, tmp_path, formats=("svg",))
    assert f"{clean['lipschitz']}‡" in figure.read_text()


def test_a_model_that_was_not_probed_is_not_diagnosed(results, tmp_path):
    """With `enabled: false`, or where one probe is missing, though attacks are compared; failed checks are kept."""
    made, _, _ = results
    models = [(variant, seed) for variant in made.plan.variants for seed in made.plan.seeds]
    compared = [Measurement.share("zero_in_attacks", "linf", range(50), 60, "pgd")]
    probe = [Measurement.share("zero_gradients", "linf", [], 60, "none")]

    def diagnosed(probed):
        tables = [
            measurement_table(found, experiment="digits", variant=variant, seed=seed)
            for variant, seed in models
            for found in ([*(probe if (variant, seed) in probed else ()), *(compared if variant == "ecc" else ())],)
        ]
        return add_verdicts(pa.concat_tables(tables))

    for probed, unknown in ((models, set()), (models[1:], {"softmax"}), ([], {"softmax", "lipschitz"})):
        summary = summarize_diagnosed(made.evaluations, diagnosed(probed))
        rows = [row for row in summary.to_pylist() if row["norm"] == "linf"]
        assert {row["variant"] for row in rows if row["flags"] is None} == unknown
        assert {row["flags"] for row in rows if row["variant"] == "ecc"} == {"zero_in_attacks"}
        compared_rows = compare_variants(made.evaluations)
        texts = render_tables(TableInputs(made.evaluations, summary, compared_rows, CERTIFIED_SCHEMA.empty_table()))
        assert ("Not diagnosed: gradients may be masked." in texts["table.md"]) == bool(unknown)
    write_table(made.evaluations.with_name("diagnostics.parquet"), diagnosed([]), {})
    (path,) = (one for one in tables_from_results(made.evaluations, tmp_path) if one.name == "table.md")
    made.evaluations.with_name("diagnostics.parquet").unlink()
    assert "Not diagnosed: gradients may be masked." in path.read_text(encoding="utf-8")


def test_a_failed_check_of_another_version_still_flags():
    """A check that is unknown here is named, not dropped."""
    rows = [("a_check_of_tomorrow", None), ("zero_gradients", "linf")]
    columns = {"variant": ["v", "v"], "norm": [norm for _, norm in rows], "check": [name for name, _ in rows]}
    flags = collect_flags(synthetic.pa.table({**columns, "verdict": ["fail", "fail"]}))
    assert flags_for(flags, "v", "linf") == ("zero_gradients", "a_check_of_tomorrow")
    assert accuracy_flags("zero_gradients, accuracy_at_chance, a_check_of_tomorrow") == "accuracy_at_chance"
    assert accuracy_flags(None) == accuracy_flags("") == ""
