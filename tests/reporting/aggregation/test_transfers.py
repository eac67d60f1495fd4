"""The transfer matrix and the histograms of confidence against counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation import AttackDesign, count_confidences, list_transfers, open_evaluations
from tests.support import synthetic

VARIANTS = synthetic.VARIANTS[:3]
ATTACKS = (
    AttackDesign("pgd", "linf", (0.1,)),
    *(AttackDesign(f"from_{one}", "linf", (0.03, 0.1), without=(one,), sources=(one,)) for one in VARIANTS[::-1]),
    AttackDesign("ensemble", "linf", (0.1,), sources=("hydra_ecc", "softmax")),
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Every variant attacked through every other, and all through two."""
    return synthetic.write_experiment(
        tmp_path_factory.mktemp("made"), synthetic.plan(VARIANTS, (0, 1), ATTACKS), samples=80
    )


def test_the_matrix_has_every_pair_of_variants_but_the_diagonal(experiment):
    """Pairs are in the order of the configuration, each with the robust accuracy under the transfer."""
    rows = list_transfers(read_table(experiment.summary), experiment.plan).to_pylist()
    pairs = list(dict.fromkeys((row["source"], row["target"]) for row in rows if row["attack"] != "ensemble"))
    assert pairs == [(one, other) for one in VARIANTS for other in VARIANTS if one != other]
    every = pq.read_table(experiment.evaluations).to_pylist()
    for row in rows:
        mine = [one for one in every if (one["variant"], one["attack"]) == (row["target"], row["attack"])]
        left = [one["epsilon"] is None or one["epsilon"] > row["epsilon"] for one in mine]
        assert row["robust_accuracy"] == pytest.approx(np.mean(left))


def test_an_ensemble_is_without_the_attacked_variant(experiment):
    """Its source is named by the variants used, in the order of the configuration."""
    rows = list_transfers(read_table(experiment.summary), experiment.plan).to_pylist()
    sources = {row["target"]: row["source"] for row in rows if row["attack"] == "ensemble"}
    assert sources == {"softmax": "hydra_ecc", "ecc": "softmax+hydra_ecc", "hydra_ecc": "softmax"}


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_histograms_of_confidence_count_every_sample_once(experiment, bins):
    """Clean, fooling and other images are counted as by numpy."""
    with open_evaluations(experiment.evaluations) as evaluations:
        found = count_confidences(evaluations, "ecc", "pgd", bins=bins)
        nothing = count_confidences(evaluations, "ecc", "no such attack", bins=bins)
    rows = [
        one
        for one in pq.read_table(experiment.evaluations).to_pylist()
        if (one["variant"], one["attack"]) == ("ecc", "pgd")
    ]
    for counts, column, status in (
        (found.clean, "clean_confidence", None),
        (found.fooled, "adversarial_confidence", "adversarial"),
        (found.robust, "adversarial_confidence", "robust"),
    ):
        values = [np.float32(one[column]) for one in rows if status in (None, one["status"])]
        np.testing.assert_array_equal(counts, np.histogram(values, bins=bins, range=(0, 1))[0])
    assert not nothing.clean.any()


def test_transfers_keep_missing_cells_errors_and_flags(experiment):
    """They are those of the summary's row."""
    summary = read_table(experiment.summary)
    doubted = pa.array([f"doubt {number}" for number in range(summary.num_rows)])
    failed = pa.array(range(summary.num_rows), pa.int64())
    for name, values in (("flags", doubted), ("errors", failed)):
        summary = summary.set_column(summary.column_names.index(name), name, values)
    wanted = {(row["variant"], row["attack"], row["epsilon"]): row for row in summary.to_pylist()}
    rows = list_transfers(summary, experiment.plan).to_pylist()
    assert rows
    for row in rows:
        whole = wanted[row["target"], row["attack"], row["epsilon"]]
        assert {name: row[name] for name in ("flags", "errors", "missing")} == {
            name: whole[name] for name in ("flags", "errors", "missing")
        }
