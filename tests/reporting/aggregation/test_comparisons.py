"""Comparisons of variants: every row against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats as reference

from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation import (
    AttackDesign,
    certified_accuracies,
    compare_variants,
    comparisons,
    open_evaluations,
)
from gauntlet.reporting.stats import holm, paired_interval, sign_flip_test, t_interval
from gauntlet.reporting.tables.numbers import repeated_numbers
from tests.support import synthetic
from tests.support.cells import make_cell

ATTACKS = (
    AttackDesign("fgsm", "linf", synthetic.LINF, without=("ecc",), sources=("ecc",)),
    AttackDesign("pgd", "linf", (0.03, 0.1), repeats="pgd"),
    AttackDesign("pgd_1", "linf", (0.03, 0.1), repeats="pgd"),
    AttackDesign("spsa", "linf", (0.1,), counts=False),
    AttackDesign("cw", "l2", None),
)
PLAN = synthetic.plan(attacks=ATTACKS)
ABSENT = [make_cell("evaluate", "digits", "softmax", 1, "pgd"), make_cell("evaluate", "digits", "lipschitz", 0, "cw")]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment with missing cells, an attack repeated with another seed, a transfer, and excluded attacks."""
    return synthetic.write_experiment(tmp_path_factory.mktemp("made"), PLAN, samples=60, absent=ABSENT)


@pytest.fixture(scope="module")
def certified(experiment):
    """The experiment's certified accuracies."""
    return certified_accuracies(experiment.certificates)


@pytest.fixture(scope="module")
def rows(experiment, certified):
    """The experiment's comparisons."""
    return compare_variants(experiment.evaluations, experiment.certificates, certified=certified).to_pylist()


def outcomes_by_hand(experiment, row):
    """Return the correct samples per (variant, replicate) for a row's measure, in plain Python."""
    name, found = row["name"], {}
    if row["measure"] == "certified":
        for one in read_table_rows(experiment.certificates):
            if one["certificate"] == name:
                right = one["status"] == "certified" and one["radius"] >= row["epsilon"]
                found.setdefault((one["variant"], (one["seed"], 0)), {})[one["index"]] = right
        return found
    for one in read_table_rows(experiment.evaluations):
        survives = one["status"] != "error" and (one["epsilon"] is None or one["epsilon"] > row["epsilon"])
        replicate = one["seed"], 0
        if row["measure"] == "clean":
            survives = one["label"] == one["clean_prediction"]
        elif name == f"worst:{one['norm']}" and one["attack"] != "spsa":
            pass
        elif name == "seeds:pgd" and one["attack"].startswith("pgd"):
            replicate = one["seed"], one["attack"]
        elif name != one["attack"]:
            continue
        samples = found.setdefault((one["variant"], replicate), {})
        samples[one["index"]] = samples.get(one["index"], True) and survives
    return found


def read_table_rows(path, cache={}):  # noqa: B006 - one file is read many times
    """Read a combined file once."""
    if path not in cache:
        cache[path] = pq.read_table(path).to_pylist()
    return cache[path]


@pytest.mark.parametrize("seed", range(3))
def test_every_row_equals_a_count_by_hand(experiment, rows, seed):
    """Accuracies, discordant counts, intervals and p of random rows, over the seeds of both variants."""
    for row in np.random.default_rng(seed).choice(rows, 25, replace=False):
        found = outcomes_by_hand(experiment, row)
        both = [key for variant, key in found if variant == row["variant"] and (row["other"], key) in found]
        # A training seed without one of the two attack seeds has no part in their comparison.
        attack_seeds = 2 if row["name"].startswith("seeds:") else 1
        both = [key for key in both if sum(key[0] == one for one, _ in both) == attack_seeds]
        first, second = (
            np.asarray([list(found[row[side], key].values()) for key in both]) for side in ("variant", "other")
        )
        trainings = list(dict.fromkeys(seed for seed, _ in both))
        assert row["seeds"] == len(trainings)
        assert row["attack_seeds"] == attack_seeds
        assert row["samples"] == first.shape[1]
        assert (row["accuracy"], row["other_accuracy"]) == (pytest.approx(first.mean()), pytest.approx(second.mean()))
        assert row["difference"] == pytest.approx(first.mean() - second.mean())
        assert (row["only_variant"], row["only_other"]) == ((first & ~second).sum(), (second & ~first).sum())
        reach = len(both)
        joint = np.zeros((reach + 1, reach + 1))
        np.add.at(joint, (first.sum(0), second.sum(0)), 1)
        assert (row["low"], row["high"]) == pytest.approx(tuple(map(float, paired_interval(joint))))
        gaps = first.sum(0).astype(int) - second.sum(0)
        assert row["p"] == pytest.approx(float(sign_flip_test([(gaps == d).sum() for d in range(-reach, reach + 1)])))
        of_seed = [
            np.mean([first[place].mean() - second[place].mean() for place, (one, _) in enumerate(both) if one == seed])
            for seed in trainings
        ]
        if len(of_seed) > 1 and np.ptp(of_seed) > 1e-12:
            assert (row["t_low"], row["t_high"]) == pytest.approx(tuple(map(float, t_interval(of_seed))))
            assert row["t_p"] == pytest.approx(reference.ttest_1samp(of_seed, 0.0).pvalue, rel=1e-9)
        else:
            assert (row["t_low"], row["t_high"], row["t_p"]) == (None, None, None)


def test_p_values_are_adjusted_over_the_pairs_of_one_measure_and_budget(rows):
    """Holm's adjustment is within a table column, and significant means below 0.05."""
    families = {}
    for row in rows:
        families.setdefault((row["measure"], row["name"], row["epsilon"]), []).append(row)
    assert len(families) > 20
    for family in families.values():
        adjusted = holm([row["p"] for row in family])
        assert [row["p_holm"] for row in family] == pytest.approx(adjusted)
        assert [row["significant"] for row in family] == (adjusted < 0.05).tolist()
        over_trainings = holm([np.nan if row["t_p"] is None else row["t_p"] for row in family])
        found = [np.nan if row["t_p_holm"] is None else row["t_p_holm"] for row in family]
        np.testing.assert_allclose(found, over_trainings)
        assert [row["t_significant"] for row in family] == (over_trainings < 0.05).tolist()
    assert {row["significant"] for row in rows} == {True, False}


def test_each_pair_of_variants_has_one_row_in_the_order_of_the_configuration(rows):
    """A variant has no comparison under a transfer from itself."""
    place = PLAN.variants.index
    pairs = [(row["measure"], row["name"], row["epsilon"], row["variant"], row["other"]) for row in rows]
    assert len(set(pairs)) == len(pairs)
    assert all(place(row["variant"]) < place(row["other"]) for row in rows)
    assert not any("ecc" in (row["variant"], row["other"]) for row in rows if row["name"] == "fgsm")
    assert sum(row["name"] == "worst:linf" and row["epsilon"] == 0.1 for row in rows) == 6


def test_missing_cells_are_counted_on_either_side(rows):
    """A pair is compared over the seeds of both variants, and missing cells are counted."""
    of = {(row["name"], row["epsilon"], row["variant"], row["other"]): row for row in rows}
    assert (of["pgd", 0.1, "softmax", "ecc"]["seeds"], of["pgd", 0.1, "softmax", "ecc"]["missing"]) == (2, 1)
    assert (of["pgd", 0.1, "ecc", "hydra_ecc"]["seeds"], of["pgd", 0.1, "ecc", "hydra_ecc"]["missing"]) == (3, 0)
    assert of["worst:linf", 0.1, "softmax", "ecc"]["missing"] == 1
    epsilon = next(row["epsilon"] for row in rows if row["name"] == "cw")
    assert of["cw", epsilon, "ecc", "lipschitz"]["missing"] == 1
    assert of["seeds:pgd", 0.1, "softmax", "ecc"]["missing"] == 1


def test_repetitions_are_compared_over_the_training_seeds_that_have_all_of_them(experiment, rows):
    """As the table's number is; otherwise the difference is not the mean over seeds that its interval is about."""
    with open_evaluations(experiment.evaluations) as opened:
        number = repeated_numbers(opened, "softmax", "pgd", 0.1)
    found = [row for row in rows if (row["name"], row["epsilon"]) == ("seeds:pgd", 0.1)]
    of_softmax = [row for row in found if "softmax" in (row["variant"], row["other"])]
    assert [row["seeds"] for row in of_softmax] == [number["seeds"]] * 3 == [2] * 3
    assert [row["accuracy"] for row in of_softmax] == pytest.approx([number["accuracy"]] * 3)
    assert [row["seeds"] for row in found if row not in of_softmax] == [3] * 3
    for row in found:
        assert row["difference"] == pytest.approx((row["t_low"] + row["t_high"]) / 2)


def test_counting_in_parts_changes_nothing(experiment, certified, rows, monkeypatch):
    """The number of samples counted at a time does not change a number."""
    monkeypatch.setattr(comparisons, "_ONE_HOT_VALUES", 100)
    assert compare_variants(experiment.evaluations, experiment.certificates, certified=certified).to_pylist() == rows


def test_a_single_variant_has_an_empty_table(tmp_path):
    """The table exists without rows."""
    plan = replace(synthetic.plan(("softmax",), (0,)), certificates=())
    experiment = synthetic.write_experiment(tmp_path, plan, samples=10)
    assert len(compare_variants(experiment.evaluations)) == 0


def test_attacks_that_are_no_perturbations_are_in_no_worst_case(tmp_path):
    """They change neither comparisons nor summary."""
    plan = synthetic.plan(("softmax", "ecc"), (0,), ATTACKS)
    counted = synthetic.plan(("softmax", "ecc"), (0,), tuple(one for one in ATTACKS if one.counts))
    experiment = [
        synthetic.write_experiment(tmp_path / name, of) for name, of in (("with", plan), ("without", counted))
    ]
    for read in (lambda one: compare_variants(one.evaluations), lambda one: read_table(one.summary)):
        tables = [
            [row for row in read(one).to_pylist() if "worst:linf" in (row.get("name"), row.get("attack"))]
            for one in experiment
        ]
        assert tables[0] == tables[1] != []
