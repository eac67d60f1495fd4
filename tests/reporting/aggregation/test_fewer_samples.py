"""An attack on the first samples only: numbers of its own, and no part in numbers over all samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_table, write_table
from gauntlet.reporting.aggregation import (
    CERTIFIED_SCHEMA,
    AttackDesign,
    certified_accuracies,
    combine,
    compare_variants,
    headline_budgets,
    measure_attacks,
    norm_grids,
    open_evaluations,
    summarize,
)
from gauntlet.reporting.aggregation.headline_outcomes import read_headline_outcomes
from gauntlet.reporting.aggregation.outcomes import CLEAN
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page.content import read_content
from gauntlet.reporting.seeds_needed import plan_seeds
from gauntlet.reporting.tables.cells import TableInputs, read_table_content
from gauntlet.reporting.tables.numbers import clean_numbers
from gauntlet.reporting.tables.published_rows import PublishedEntry, measure_published
from gauntlet.reporting.tables.summary_text import markdown_table
from gauntlet.reporting.tables.wording import table_notes
from tests.support import synthetic

FEW = 15
SYNTHETIC = "images are not perturbations of the samples"
ALL = (
    AttackDesign("pgd", "linf", synthetic.LINF),
    AttackDesign("fgsm", "linf", synthetic.LINF),
    AttackDesign("pgd_l2", "l2", synthetic.L2),
)
CW = AttackDesign("cw", "l2", None, counts=False, samples=FEW, title="CW of the source")
FEWEST = AttackDesign("fewest", "linf", (0.02, 0.05), counts=False, samples=5)
L1 = AttackDesign("only_l1", "l1", (0.5, 2.0), counts=False, samples=FEW)
SMALL = (CW, FEWEST, L1)
VARIANTS, SEEDS = ("softmax", "ecc", "lipschitz"), (0, 1, 2)


def made(folder, attacks, *, absent=(), samples=60):
    """Write a synthetic experiment."""
    plan = synthetic.plan(VARIANTS, SEEDS, attacks)
    left_out = [cell for cell in synthetic.cells(plan) if (cell.variant, cell.seed, cell.name) in absent]
    return synthetic.write_experiment(folder, plan, samples=samples, absent=left_out)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment with attacks on few samples, the first of the design among them."""
    return made(tmp_path_factory.mktemp("few"), (CW, *ALL, FEWEST, L1))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The same experiment without these attacks."""
    return made(tmp_path_factory.mktemp("all"), ALL)


def rows_of(table, *names, column):
    """Return the rows of a table whose column has none of some values."""
    return [row for row in table.to_pylist() if row[column] not in names]


def by_key(rows, *keys):
    """Return rows by the values of some columns."""
    return {tuple(row[key] for key in keys): row for row in rows}


def test_all_other_numbers_are_those_of_the_experiment_without_the_attack(experiment, without):
    """Worst cases, clean accuracy and calibration, and each attack on all samples, to the last digit."""
    names = [attack.name for attack in SMALL]
    with_it, other = (
        by_key(rows_of(read_table(made.summary), *names, column="attack"), "variant", "attack", "epsilon")
        for made in (experiment, without)
    )
    assert with_it == other
    assert {row["samples"] for row in other.values()} == {60 * len(SEEDS)}


def test_the_attack_has_its_own_samples_and_intervals(experiment, tmp_path):
    """Its rows are those of an experiment that has the first samples only."""
    plan = synthetic.plan(VARIANTS, SEEDS, [replace(CW, counts=True, samples=None)])
    with open_evaluations(experiment.evaluations) as opened:
        grid = norm_grids(opened)["l2"]
    assert grid == synthetic.L2
    files = {}
    for cell in synthetic.cells(plan):
        rows = synthetic.evaluation(cell, CW, samples=60)
        assert len(rows) == FEW
        files[cell] = tmp_path / f"{cell.variant}-{cell.seed}.parquet"
        write_table(files[cell], rows, {})
    # A grid in the same norm states the accuracies at the same budgets.
    plan = replace(plan, attacks=(*plan.attacks, AttackDesign("absent", "l2", grid, without=VARIANTS)))
    combine(files, tmp_path / "evaluations.parquet", design=plan)
    expected = rows_of(summarize(tmp_path / "evaluations.parquet"), "worst:l2", column="attack")
    found = [row for row in read_table(experiment.summary).to_pylist() if row["attack"] == "cw"]
    assert found == expected
    assert {(row["samples"], row["attacks"], row["missing"]) for row in found} == {(FEW * 3, 1, 0)}


def test_a_norm_whose_attacks_are_all_on_few_samples_has_no_worst_case(experiment):
    """Its attacks are stated at their own budgets."""
    rows = [row for row in read_table(experiment.summary).to_pylist() if row["norm"] == "l1"]
    assert {(row["attack"], row["epsilon"]) for row in rows} == {("only_l1", 0.5), ("only_l1", 2.0)}


def test_clean_accuracy_is_not_that_of_the_few(tmp_path):
    """A seed whose attacks on all samples are missing has no clean accuracy, though the few have rows."""
    absent = [("ecc", 1, attack.name) for attack in ALL]
    experiment = made(tmp_path, (CW, *ALL), absent=absent)
    with open_evaluations(experiment.evaluations) as opened:
        numbers = clean_numbers(opened, "ecc")
        outcomes = list(read_headline_outcomes(opened, None, CERTIFIED_SCHEMA.empty_table()))
    assert (numbers["seeds"], numbers["samples"], numbers["missing"]) == (2, 120, 1)
    clean = next(one for one in outcomes if one.measure == CLEAN)
    assert np.isnan(clean.values[VARIANTS.index("ecc"), 1])
    assert clean.values[0].mean() == pytest.approx(clean_numbers_of(experiment, "softmax"))
    compared = compare_variants(experiment.evaluations).to_pylist()
    row = next(row for row in compared if (row["measure"], row["other"]) == (CLEAN, "ecc"))
    assert (row["seeds"], row["samples"], row["missing"]) == (2, 60, 1)


def clean_numbers_of(experiment, variant):
    """Return the clean accuracy of a variant in the tables."""
    with open_evaluations(experiment.evaluations) as opened:
        return clean_numbers(opened, variant)["accuracy"]


def test_clean_accuracy_of_few_samples_says_so(tmp_path):
    """Without an attack on all samples it is over those of the attack that has the most."""
    experiment = made(tmp_path, (replace(FEWEST, norm="l2"), CW))
    with open_evaluations(experiment.evaluations) as opened:
        assert clean_numbers(opened, "ecc")["samples"] == FEW * len(SEEDS)
    assert f"clean: on the first {FEW} samples only." in table_notes(content_of(experiment))


def test_pairs_of_variants_are_compared_on_the_few_samples(experiment, without):
    """Comparisons under other measures are those of the experiment without the attacks."""
    tables = [compare_variants(one.evaluations) for one in (experiment, without)]
    names = [attack.name for attack in SMALL]
    keys = ("measure", "name", "epsilon", "variant", "other")
    assert by_key(rows_of(tables[0], *names, column="name"), *keys) == by_key(tables[1].to_pylist(), *keys)
    few = tables[0].filter(pc.is_in(tables[0]["name"], pa.array(["cw", "only_l1"]))).to_pylist()
    assert {row["samples"] for row in few} == {FEW}
    assert {row["seeds"] for row in few} == {len(SEEDS)}


def test_optimality_compares_attacks_on_the_same_samples(experiment, without, tmp_path):
    """Attacks on all samples keep theirs; that of the few is the one of an experiment with the first samples only."""
    found, other = (
        by_key(measure_attacks(one.evaluations).to_pylist(), "variant", "seed", "attack")
        for one in (experiment, without)
    )
    assert {key: found[key]["optimality"] for key in other} == {key: row["optimality"] for key, row in other.items()}
    plan = synthetic.plan(VARIANTS, SEEDS, [replace(CW, samples=None), *ALL, replace(L1, samples=None)])
    files = {}
    for cell in synthetic.cells(plan):
        attack = next(one for one in plan.attacks if one.name == cell.name)
        files[cell] = tmp_path / f"{cell.variant}-{cell.seed}-{cell.name}.parquet"
        write_table(files[cell], synthetic.evaluation(cell, attack, samples=60).slice(0, FEW), {})
    combine(files, tmp_path / "evaluations.parquet", design=plan)
    few = by_key(measure_attacks(tmp_path / "evaluations.parquet").to_pylist(), "variant", "seed", "attack")
    for key, row in found.items():
        if key[2] == "cw":
            assert row["optimality"] == few[key]["optimality"] is not None
            assert (row["samples"], row["attacked"]) == (FEW, few[key]["attacked"])


@pytest.mark.parametrize("order", [(CW, ALL[0]), (ALL[0], CW), (CW, FEWEST)], ids=["few first", "all first", "no all"])
def test_other_samples_are_refused(tmp_path, order):
    """The few must be the first of all, whichever comes first, also without an attack on all."""
    plan = synthetic.plan(("softmax",), (0,), order)
    files = {}
    for cell in synthetic.cells(plan):
        attack = next(one for one in plan.attacks if one.name == cell.name)
        rows = synthetic.evaluation(cell, replace(attack, samples=None), samples=60)
        # Shifted by one sample in the smallest file.
        start = 1 if attack.samples == min(one.samples or 60 for one in order) else 0
        files[cell] = tmp_path / f"{cell.name}.parquet"
        write_table(files[cell], rows.slice(start, attack.samples), {})
    with pytest.raises(InputError, match="it holds other samples than"):
        combine(files, tmp_path / "evaluations.parquet", design=plan)


def content_of(experiment):
    """Return the content of the tables of a paper."""
    with open_evaluations(experiment.evaluations) as opened:
        radii = headline_budgets(opened.design, norm_grids(opened))
    certified = certified_accuracies(experiment.certificates, radii=radii)
    compared = compare_variants(experiment.evaluations)
    return read_table_content(TableInputs(experiment.evaluations, read_table(experiment.summary), compared, certified))


def test_tables_state_that_the_attack_is_on_few_samples(experiment):
    """Markdown and paper tables name the number; the norm without a worst case has no column for it."""
    note = f"on the first {FEW} samples only; not in the worst case"
    content = content_of(experiment)
    assert f"CW of the source: {note}." in table_notes(content)
    assert {column.name for column in content.columns if column.norm == "l1"} == {"only_l1"}
    column = next(one for one in content.columns if one.name == "cw")
    assert content.cells["ecc", column].samples == FEW * len(SEEDS)
    text = markdown_table(read_table(experiment.summary), uncounted=experiment.plan.uncounted)
    assert f"cw: {note}." in text
    assert "Attacks: pgd, fgsm.\n" in text
    assert "60 samples × 3 seeds" in text
    assert text.count("worst case per sample") == 2


def test_the_page_states_it(experiment):
    """Each section names the attacks that are left out; the header counts the samples of worst cases."""
    inputs = find_inputs(experiment.evaluations)
    content = read_content(replace(inputs, summary=experiment.summary))
    sections = {section.key: section for section in content.norms}
    assert sections["l2"].attacks == ("pgd_l2",)
    assert sections["l2"].excluded == (f"cw: on the first {FEW} samples only; not in the worst case",)
    assert (sections["l1"].attacks, sections["l1"].worst) == ((), ())
    assert content.counts == "60 samples × 3 seeds"


def test_every_figure_is_drawn_and_those_with_worst_cases_state_it(experiment):
    """Figures of the tables' numbers name what is not in the worst case."""
    inputs = replace(find_inputs(experiment.evaluations), summary=experiment.summary)
    for name in available_figures(inputs):
        texts = [text.get_text() for text in draw(name, inputs).findobj(lambda artist: hasattr(artist, "get_text"))]
        if name in ("heat_map", "robust_accuracy", "paired_budgets"):
            assert any(f"CW of the source: on the first {FEW} samples only" in text for text in texts), name
    with open_evaluations(experiment.evaluations) as opened:
        clean = [100 * clean_numbers(opened, variant)["accuracy"] for variant in VARIANTS]
    axes = draw("heat_map", inputs).axes[0]
    shown = [text.get_text() for text in axes.texts if text.get_position()[0] == 0]
    assert shown == [f"{value:.1f}" for value in clean]


def test_attacks_on_few_samples_are_no_noise(experiment):
    """The histograms of noise are those of images that are no perturbations, and there are none."""
    inputs = replace(find_inputs(experiment.evaluations), summary=experiment.summary)
    artists = draw("confidence", inputs).findobj(lambda artist: hasattr(artist, "get_text"))
    assert not any("noise" in artist.get_text() for artist in artists)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (AttackDesign("old", "linf", (1.0,), counts=False), SYNTHETIC),
        (
            AttackDesign("new", "linf", (1.0,), counts=False, synthetic=True),
            SYNTHETIC,
        ),
        (AttackDesign("few", "linf", (1.0,), counts=False, samples=5), "on the first 5 samples only"),
        (
            AttackDesign("both", "linf", (1.0,), counts=False, samples=5, synthetic=True),
            f"{SYNTHETIC} and on the first 5 samples only",
        ),
        (ALL[0], ""),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_reason_of_an_exclusion_is_the_one_that_holds(attack, reason):
    """Also in files of versions that knew one reason only."""
    assert attack.exclusion == reason
    assert attack.is_perturbation == ("perturbations" not in reason)


def test_published_numbers_of_the_attack_are_of_its_samples(experiment):
    """The row of a published number has the number of samples pooled over seeds."""
    entries = [
        PublishedEntry("ecc", "clean", "clean", "clean", None, is_share=True, value=95.0),
        PublishedEntry("ecc", "cw@1", "attack", "cw", 1.0, is_share=True, value=80.0),
    ]
    rows = measure_published(
        "A paper",
        entries,
        evaluations=experiment.evaluations,
        certificates=experiment.certificates,
        summary=read_table(experiment.summary),
        histories={},
    ).to_pylist()
    assert [row["samples"] for row in rows] == [60 * len(SEEDS), FEW * len(SEEDS)]


def test_seeds_are_planned_for_worst_cases_that_exist(experiment):
    """Clean accuracy and the worst cases of the norms that have one."""
    planned = plan_seeds(compare_variants(experiment.evaluations), experiment.plan, 0.02)
    assert [one.outcome.partition(", ε")[0] for one in planned] == [
        "clean accuracy",
        "worst case, L2",
        "worst case, L∞",
    ]
