"""The transfer matrix and the diagnostics matrix show the numbers of the tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gauntlet.core.parquet import read_table, write_table
from gauntlet.reporting.aggregation import AttackDesign, list_transfers
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.robustness.diagnostics.checks import CHECKS, add_verdicts
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic

VARIANTS = ("softmax", "ecc", "lipschitz")
ATTACKS = (
    AttackDesign("pgd", "linf", (0.03, 0.1)),
    *(AttackDesign(f"from_{one}", "linf", (0.1,), without=(one,), sources=(one,)) for one in VARIANTS),
    AttackDesign("fgsm_from_ecc", "linf", (0.1,), without=("ecc",), sources=("ecc",)),
    AttackDesign("all", "linf", (0.1,), sources=VARIANTS, title="all others"),
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Every variant attacked through every other."""
    plan = synthetic.plan(VARIANTS, (0, 1), ATTACKS)
    return synthetic.write_experiment(tmp_path_factory.mktemp("made"), plan, samples=60)


def _texts(axes):
    return {tuple(round(one) for one in text.get_position()): text.get_text() for text in axes.texts}


def test_attacks_on_few_samples_have_a_matrix_of_their_own(experiment, tmp_path):
    """The matrix of the others stays as it is; the other one has no worst case on its diagonal."""
    few = AttackDesign("few_from_ecc", "linf", (0.1,), without=("ecc",), sources=("ecc",), counts=False, samples=9)
    plan = synthetic.plan(VARIANTS, (0, 1), (*ATTACKS, few))
    made = synthetic.write_experiment(tmp_path, plan, samples=60)
    figures = [
        draw("transfer_matrix", FigureInputs(VARIANTS, one.evaluations, one.summary)).axes for one in (experiment, made)
    ]
    assert _texts(figures[0][0]) == _texts(figures[1][0])
    other = figures[1][1]
    assert other.get_title(loc="left").endswith("first 9 samples")
    accuracy = {row["variant"]: row["robust_accuracy"] for row in _rows(made, "few_from_ecc")}
    shown = {variant: f"{100 * accuracy[variant]:.1f}" for variant in accuracy} | {"ecc": "–"}
    assert _texts(other) == {(column, 0): shown[variant] for column, variant in enumerate(VARIANTS)}


def _rows(made, attack):
    return [row for row in read_table(made.summary).to_pylist() if row["attack"] == attack]


def test_each_field_is_the_lowest_accuracy_under_attacks_on_the_variant_of_its_row(experiment):
    """The strongest attack counts, the diagonal is the worst case, and an ensemble has a row."""
    axes = draw("transfer_matrix", FigureInputs(VARIANTS, experiment.evaluations, experiment.summary)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*VARIANTS, "all others"]
    rows = [row for row in read_table(experiment.summary).to_pylist() if np.isclose(row["epsilon"], 0.1)]
    accuracy = {(row["variant"], row["attack"]): row["robust_accuracy"] for row in rows}
    for column, target in enumerate(VARIANTS):
        for place, source in enumerate(VARIANTS):
            attacks = [f"from_{source}", *(["fgsm_from_ecc"] if source == "ecc" else [])]
            attacks = attacks if source != target else ["worst:linf"]
            expected = min(accuracy[target, attack] for attack in attacks)
            assert _texts(axes)[column, place] == f"{100 * expected:.1f}"
        assert _texts(axes)[column, 3] == f"{100 * accuracy[target, 'all']:.1f}"
    assert len(list_transfers(read_table(experiment.summary), experiment.plan)) == 6 + 2 + 3


def test_a_pair_without_an_attack_is_a_dash(tmp_path):
    """One source gives one row, and a variant that was not attacked has no number."""
    attacks = (ATTACKS[0], AttackDesign("from_ecc", "linf", (0.1,), without=("ecc", "softmax"), sources=("ecc",)))
    experiment = synthetic.write_experiment(tmp_path, synthetic.plan(VARIANTS, (0,), attacks), samples=20)
    axes = draw("transfer_matrix", FigureInputs(VARIANTS, experiment.evaluations, experiment.summary)).axes[0]
    assert [_texts(axes)[column, 0] == "–" for column in range(3)] == [True, False, False]


def test_figures_that_have_nothing_to_show_are_not_drawn(experiment, tmp_path):
    """Without transfers there is no transfer matrix, and without pairs no paired figure."""
    assert {"transfer_matrix", "paired_budgets"} <= set(
        available_figures(FigureInputs(VARIANTS, experiment.evaluations, experiment.summary))
    )
    alone = synthetic.write_experiment(tmp_path, synthetic.plan(("ecc",), (0,), ATTACKS[:1]), samples=20)
    names = available_figures(FigureInputs(("ecc",), alone.evaluations, alone.summary))
    assert "confidence" in names
    assert {"transfer_matrix", "paired_budgets"}.isdisjoint(names)


def test_verdicts_are_the_worst_over_seeds(tmp_path):
    """One failing seed fails its variant; checks that do not apply are counted."""
    check, other, idle = list(CHECKS)[:3]
    of = {
        ("softmax", 0): [Measurement(check, "linf", 0.0), Measurement(other, None, 0.0, total=100)],
        ("softmax", 1): [Measurement(check, "linf", 1.0, 50), Measurement(other, None, 0.0, total=100)],
        ("ecc", 0): [Measurement(check, "linf", CHECKS[check].warn * 1.01, 50), Measurement(other, None, None)],
    }
    tables = [
        add_verdicts(
            measurement_table([*rows, Measurement(idle, None, None)], experiment="e", variant=variant, seed=seed)
        )
        for (variant, seed), rows in of.items()
    ]
    write_table(tmp_path / "diagnostics.parquet", pa.concat_tables(tables), {})
    inputs = FigureInputs(("softmax", "ecc"), diagnostics=tmp_path / "diagnostics.parquet", titles={"ecc": "ECC"})
    figure = draw("diagnostics_matrix", inputs)
    assert _texts(figure.axes[0]) == {(0, 0): "✗", (1, 0): "!", (0, 1): "✓", (1, 1): "·"}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["softmax", "ECC"]
    assert "1 of 3 checks apply to no variant" in figure._supxlabel.get_text()


def test_many_variants_are_rows_of_the_diagnostics_matrix(tmp_path):
    """Their names would overlap next to each other; verdicts stay with their variants."""
    names = tuple(f"a_long_name_{number}" for number in range(40))
    check = next(iter(CHECKS))
    tables = [
        measurement_table(
            [Measurement(check, "linf", float(name == names[7]), 50)], experiment="e", variant=name, seed=0
        )
        for name in names
    ]
    write_table(tmp_path / "diagnostics.parquet", add_verdicts(pa.concat_tables(tables)), {})
    figure = draw("diagnostics_matrix", FigureInputs(names, diagnostics=tmp_path / "diagnostics.parquet"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(names)
    assert [text.get_position() for text in axes.texts if text.get_text() == "✗"] == [(0, 7)]
    assert figure.get_size_inches()[1] < 9.5
