"""Certified accuracies against counts of the rows, over all samples, at round radii."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.reporting.aggregation import CERTIFIED_SCHEMA, certified_accuracies, summarize
from gauntlet.reporting.aggregation.certified import radius_grid
from gauntlet.reporting.aggregation.design import design_from_metadata
from gauntlet.reporting.stats import t_interval
from gauntlet.reporting.tables.summary_text import markdown_table
from tests.support import synthetic
from tests.support.shared_wilson import shared_wilson


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two variants with three seeds; a model certificate for one, a smoothed one for both."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1, 2), synthetic.ATTACKS[3:5])
    return synthetic.write_experiment(tmp_path_factory.mktemp("experiment"), plan, samples=90)


def test_every_number_is_a_count_over_all_samples(experiment):
    """Abstentions and errors are in the denominator."""
    table = certified_accuracies(experiment.certificates)
    assert table.schema.equals(CERTIFIED_SCHEMA)
    samples = pq.read_table(experiment.certificates).to_pylist()
    for row in table.to_pylist():
        mine = [one for one in samples if (one["variant"], one["certificate"]) == (row["variant"], row["certificate"])]
        shares, survivals = [], []
        for seed in (0, 1, 2):
            of_seed = [one for one in mine if one["seed"] == seed]
            survivals.append([one["status"] == "certified" and one["radius"] >= row["radius"] for one in of_seed])
            shares.append(sum(survivals[-1]) / len(of_seed))
        assert row["certified_accuracy"] == pytest.approx(np.mean(shares))
        expected = (None, None) if np.ptp(shares) < 1e-12 else pytest.approx(tuple(map(float, t_interval(shares))))
        assert (row["t_low"], row["t_high"]) == expected
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(shared_wilson(survivals))
        assert row["training_std"] == pytest.approx(np.std(shares, ddof=1))
        assert row["abstained"] == pytest.approx(np.mean([one["status"] == "abstained" for one in mine]))
        radii = [one["radius"] for one in mine if one["status"] == "certified"]
        assert row["median_radius"] == pytest.approx(np.median(radii), rel=1e-6)
        assert (row["seeds"], row["samples"], row["missing"]) == (3, 270, 0)
    found = {(row["certificate"], row["variant"], row["certifies"]) for row in table.to_pylist()}
    assert found == {
        ("margin", "lipschitz", "model"),
        ("smooth", "softmax", "smoothed"),
        ("smooth", "lipschitz", "smoothed"),
    }


def test_a_radius_of_exactly_the_stated_one_counts(experiment, tmp_path):
    """A sample certified up to 0.5 is certified at 0.5."""
    rows = pq.read_table(experiment.certificates)
    radius = np.where(np.array(rows["status"].to_pylist()) == "certified", 0.5, 0.0)
    equal = rows.set_column(rows.schema.get_field_index("radius"), "radius", [radius])
    write_table(tmp_path / "certificates.parquet", equal, experiment.plan.metadata())
    found = certified_accuracies(tmp_path / "certificates.parquet").to_pylist()
    assert found[-1]["radius"] == 0.5
    assert len({row["certified_accuracy"] for row in found if row["certificate"] == "margin"}) == 1


@pytest.mark.parametrize(
    ("largest", "last", "step"),
    [(0.9531, 0.9, 0.1), (2.5, 2.5, 0.25), (3.81, 3.5, 0.5), (0.031, 0.03, 0.005), (0.0, 0.0, 0.0), (1e-3, 1e-3, 1e-4)],
)
def test_radii_are_round_and_few(largest, last, step):
    """They go from 0 in steps of 1, 2.5 or 5 times a power of ten, up to the largest certified radius."""
    grid = radius_grid(largest)
    assert grid[0] == 0.0
    assert grid[-1] == pytest.approx(last)
    assert np.diff(grid) == pytest.approx(step)
    assert len(grid) <= 11


def test_missing_cells_are_counted(experiment, tmp_path):
    """A missing seed is counted, and a certificate without cells has no number."""
    samples = pq.read_table(experiment.certificates)
    kept = samples.filter((samples["certificate"].to_numpy() == "smooth") & (samples["seed"].to_numpy() < 2))
    write_table(tmp_path / "certificates.parquet", kept, experiment.plan.metadata())
    table = certified_accuracies(tmp_path / "certificates.parquet")
    rows = {(row["certificate"], row["variant"]): row for row in table.to_pylist()}
    assert (rows["smooth", "softmax"]["seeds"], rows["smooth", "softmax"]["missing"]) == (2, 1)
    margin = rows["margin", "lipschitz"]
    assert (margin["seeds"], margin["missing"], margin["certified_accuracy"]) == (0, 3, None)
    text = markdown_table(summarize(experiment.evaluations), certified=table, missing=["certify x"])
    assert "–*" in text
    assert "| lipschitz | – |" in text


def test_lipschitz_constants_are_reported_with_their_radii(experiment):
    """They are in rows and table columns of Lipschitz certificates only."""
    constants = {("lipschitz", "margin"): (1.0000004, 0.731)}
    table = certified_accuracies(experiment.certificates, constants=constants)
    found = {(row["certificate"], row["lipschitz_claimed"], row["lipschitz_measured"]) for row in table.to_pylist()}
    assert found == {("margin", 1.0000004, 0.731), ("smooth", None, None)}
    text = markdown_table(summarize(experiment.evaluations), certified=table)
    margin, smooth = text[text.index("### L2: margin") :].split("### L2: smooth")
    header, _, line = (line for line in margin.splitlines() if line.startswith("|"))
    assert header.endswith("| median radius | Lipschitz constant claimed | measured |")
    assert line.endswith("| 1 | 0.731 |")
    assert header.count("|") == line.count("|")
    assert "Lipschitz" not in smooth


def test_an_experiment_without_certificates_has_no_rows(tmp_path):
    """Its table has no section of certificates."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[3:4])
    bare = type(plan)(plan.experiment, plan.variants, plan.seeds, plan.attacks)
    write_table(tmp_path / "certificates.parquet", CERTIFICATE_SCHEMA.empty_table(), bare.metadata())
    table = certified_accuracies(tmp_path / "certificates.parquet")
    assert len(table) == 0
    assert table.schema.equals(CERTIFIED_SCHEMA)


def test_other_files_are_refused(experiment, tmp_path):
    """A file without a plan, or without certificates, is named."""
    write_table(tmp_path / "none.parquet", CERTIFICATE_SCHEMA.empty_table(), {})
    with pytest.raises(InputError, match=r"none\.parquet"):
        certified_accuracies(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="not a certificates file"):
        certified_accuracies(experiment.evaluations)


def test_the_plan_marks_certificates_of_smoothed_classifiers(experiment):
    """The mark is in the file's metadata."""
    plan = design_from_metadata(read_metadata(experiment.certificates))
    assert plan == experiment.plan
    assert plan.derived_certificates == ("smooth",)


def test_the_table_names_the_certified_classifier(experiment):
    """Smoothed classifiers are announced as such, and the number of columns is limited."""
    text = markdown_table(summarize(experiment.evaluations), certified=certified_accuracies(experiment.certificates))
    model, smoothed = text[text.index("### L2: margin") :].split("### L2: smooth")
    assert "smoothed classifier" not in model
    assert "Of the smoothed classifier, not of the attacked model." in smoothed
    header = next(line for line in smoothed.splitlines() if line.startswith("| variant"))
    assert "r = 0 |" in header
    assert "r = 1 |" not in header
