"""Numbers and figures over fewer cells than planned say so: clean accuracies too, and figures of single samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gauntlet.core.parquet import read_table, write_table
from gauntlet.reporting.aggregation import AttackDesign, combine, compare_variants, summarize
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.page.comparisons import list_comparisons
from gauntlet.reporting.page.content import read_content
from gauntlet.reporting.tables.summary_text import markdown_table
from tests.support import synthetic

LINF = tuple(attack for attack in synthetic.ATTACKS if attack.norm == "linf")
ATTACKS = (*LINF, synthetic.ATTACKS[3])


def is_absent(cell) -> bool:
    """Seed 1 of softmax has no attack in L-infinity, and seed 0 of ecc lacks one of them."""
    if cell.variant == "softmax":
        return cell.seed == 1 and cell.name in {attack.name for attack in LINF}
    return (cell.variant, cell.seed, cell.name) == ("ecc", 0, "spsa")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Write an experiment with missing cells."""
    folder = tmp_path_factory.mktemp("missing")
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1, 2), ATTACKS)
    absent = [cell for cell in synthetic.cells(plan) if is_absent(cell)]
    made = synthetic.write_experiment(folder, plan, samples=60, absent=absent)
    return FigureInputs(plan.variants, made.evaluations, made.summary)


def test_the_clean_accuracy_of_each_norm_is_marked_where_a_seed_has_no_attack_in_it(inputs):
    """Two seeds of softmax in L-infinity, three in L2; a seed of ecc that lacks one attack has others."""
    text = markdown_table(read_table(inputs.path("summary")))
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.split("##")[1].splitlines()}
    assert {name: "*" in rows[name][1] for name in inputs.variants} == {
        "softmax": True,
        "ecc": False,
        "lipschitz": False,
    }
    assert "*" in rows["ecc"][2]
    sections = {section.key: section for section in read_content(inputs).norms}
    worst = {key: {row.variant: row.clean_marks for row in section.worst} for key, section in sections.items()}
    assert worst["linf"] == {"softmax": "*", "ecc": "", "lipschitz": ""}
    assert set(worst["l2"].values()) == {""}
    single = {(row.variant, row.attack): row.clean_marks for row in sections["linf"].single}
    assert {key for key, marks in single.items() if marks} == {
        *(("softmax", attack.name) for attack in LINF),
        ("ecc", "spsa"),
    }


def test_the_chart_and_the_map_mark_the_clean_accuracy(inputs):
    """The map has one column of clean accuracies, that of the first norm."""
    curves = read_content(inputs).script_data["curves"]
    marks = {(curve["variant"], curve["norm"]): curve["cleanMarks"] for curve in curves if not curve["attack"]}
    assert marks["softmax", "linf"] == "*"
    assert {marks["softmax", "l2"], marks["ecc", "linf"], marks["ecc", "l2"]} == {""}
    axes = draw("heat_map", inputs).axes[0]
    clean = [text.get_text() for text in axes.texts if text.get_position()[0] == 0]
    assert [text.endswith("*") for text in clean[:3]] == [True, False, False]


def test_comparisons_of_clean_accuracies_without_a_seed_are_marked(tmp_path):
    """A seed of which every attack is missing has no part in them; the mark is at the difference."""
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), LINF[:1])
    absent = [cell for cell in synthetic.cells(plan) if (cell.variant, cell.seed) == ("softmax", 1)]
    made = synthetic.write_experiment(tmp_path, plan, samples=60, absent=absent)
    write_table(tmp_path / "comparisons.parquet", compare_variants(made.evaluations), {})
    compared = read_table(tmp_path / "comparisons.parquet").to_pylist()
    summary = read_table(made.summary).to_pylist()
    rows = [row for row in list_comparisons(compared, summary, {"linf": (0.1,)}) if row.measure == "clean accuracy"]
    assert rows
    assert all(("softmax" in (row.variant, row.other)) == row.difference.endswith("*") for row in rows)


@pytest.mark.parametrize("figure", ["paired_budgets", "confidence", "certified_accuracy", "certificate_distance"])
def test_figures_of_samples_count_the_missing_cells_of_attacks(tmp_path, figure):
    """A sample that the missing attack would have fooled counts as not fooled; a complete experiment has no note."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1), synthetic.ATTACKS[3:5])
    absent = [cell for cell in synthetic.cells(plan) if (cell.variant, cell.seed) == ("lipschitz", 1)]
    for folder, left_out in ((tmp_path / "whole", []), (tmp_path / "part", absent[:1])):
        made = synthetic.write_experiment(folder, plan, samples=40, absent=left_out)
        found = FigureInputs(plan.variants, made.evaluations, made.summary, made.certificates)
        note = draw(figure, found)._supxlabel.get_text()
        assert ("1 cell of an attack is missing: " in note) == bool(left_out)


@pytest.mark.parametrize("own", [{}, {"softmax": (1,)}, {"lipschitz": (2,)}], ids=str)
def test_the_variant_that_is_compared_with_all_others_is_the_best_of_the_tables(tmp_path, own):
    """Not the best over the seeds that it shares with one of them, which had fewer seeds."""
    plan = synthetic.plan(
        ("softmax", "ecc", "hydra_ecc", "lipschitz"), (0, 1, 2), (AttackDesign("pgd", "linf", (0.01,)),)
    )
    plan = replace(plan, own_seeds=own, certificates=())
    combine(synthetic.write_evaluations(tmp_path, plan, samples=40), tmp_path / "evaluations.parquet", design=plan)
    summary = summarize(tmp_path / "evaluations.parquet").to_pylist()
    compared = compare_variants(tmp_path / "evaluations.parquet").to_pylist()
    rows = list(list_comparisons(compared, summary, {"linf": (0.01,)}))
    worst = [row for row in summary if row["attack"] == "worst:linf"]
    for column, measure in (("clean_accuracy", "clean accuracy"), ("robust_accuracy", "worst case, L∞, ε = 0.01")):
        best = max(worst, key=lambda row: row[column])["variant"]
        assert {row.variant for row in rows if row.measure == measure} == {best}
