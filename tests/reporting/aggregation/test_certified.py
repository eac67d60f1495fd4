"""Certified accuracies equal a count of the rows, of every sample, at radii that can be read."""

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
from gauntlet.reporting.stats import t_interval, wilson_interval
from gauntlet.reporting.tables.summary_text import markdown_table
from tests.support import synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two variants, three seeds; one certificate of the model for one of them, one of the smoothed classifier."""
    plan = synthetic.plan(("softmax", "lipschitz"), (0, 1, 2), synthetic.ATTACKS[3:5])
    return synthetic.write_experiment(tmp_path_factory.mktemp("experiment"), plan, samples=90)


def test_every_number_is_a_count_over_all_samples(made):
    """Abstentions and errors are in the denominator."""
    table = certified_accuracies(made.certificates)
    assert table.schema.equals(CERTIFIED_SCHEMA)
    samples = pq.read_table(made.certificates).to_pylist()
    for row in table.to_pylist():
        mine = [one for one in samples if (one["variant"], one["certificate"]) == (row["variant"], row["certificate"])]
        shares, hits = [], 0
        for seed in (0, 1, 2):
            of_seed = [one for one in mine if one["seed"] == seed]
            good = sum(one["status"] == "certified" and one["radius"] >= row["radius"] for one in of_seed)
            shares.append(good / len(of_seed))
            hits += good
        assert row["certified_accuracy"] == pytest.approx(np.mean(shares))
        assert (row["t_low"], row["t_high"]) == pytest.approx(tuple(map(float, t_interval(shares))))
        interval = wilson_interval(hits, len(mine))
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(tuple(map(float, interval)))
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


def test_a_radius_of_exactly_the_stated_one_counts(made, tmp_path):
    """What is certified up to 0.5 is certified at 0.5."""
    rows = pq.read_table(made.certificates)
    radius = np.where(np.array(rows["status"].to_pylist()) == "certified", 0.5, 0.0).astype(np.float32)
    equal = rows.set_column(rows.schema.get_field_index("radius"), "radius", [radius])
    write_table(tmp_path / "certificates.parquet", equal, made.plan.metadata())
    found = certified_accuracies(tmp_path / "certificates.parquet").to_pylist()
    assert found[-1]["radius"] == 0.5
    assert len({row["certified_accuracy"] for row in found if row["certificate"] == "margin"}) == 1


@pytest.mark.parametrize(
    ("largest", "last", "step"),
    [(0.9531, 0.9, 0.1), (2.5, 2.5, 0.25), (3.81, 3.5, 0.5), (0.031, 0.03, 0.005), (0.0, 0.0, 0.0), (1e-3, 1e-3, 1e-4)],
)
def test_radii_are_round_and_few(largest, last, step):
    """From 0 in equal steps of 1, 2.5 or 5 times a power of ten, and none beyond what was certified."""
    grid = radius_grid(largest)
    assert grid[0] == 0.0
    assert grid[-1] == pytest.approx(last)
    assert np.diff(grid) == pytest.approx(step)
    assert len(grid) <= 11


def test_missing_cells_are_counted(made, tmp_path):
    """A seed that is not there is missing; a certificate of which nothing is there has no number."""
    samples = pq.read_table(made.certificates)
    kept = samples.filter((samples["certificate"].to_numpy() == "smooth") & (samples["seed"].to_numpy() < 2))
    write_table(tmp_path / "certificates.parquet", kept, made.plan.metadata())
    table = certified_accuracies(tmp_path / "certificates.parquet")
    rows = {(row["certificate"], row["variant"]): row for row in table.to_pylist()}
    assert (rows["smooth", "softmax"]["seeds"], rows["smooth", "softmax"]["missing"]) == (2, 1)
    margin = rows["margin", "lipschitz"]
    assert (margin["seeds"], margin["missing"], margin["certified_accuracy"]) == (0, 3, None)
    text = markdown_table(summarize(made.evaluations), certified=table, missing=["certify x"])
    assert "–*" in text
    assert "| lipschitz | – |" in text


def test_lipschitz_constants_stand_beside_the_radii_they_gave(made):
    """In every row of the certificate that rests on them, and as two columns of its table; nowhere else."""
    constants = {("lipschitz", "margin"): (1.0000004, 0.731)}
    table = certified_accuracies(made.certificates, constants=constants)
    found = {(row["certificate"], row["lipschitz_claimed"], row["lipschitz_measured"]) for row in table.to_pylist()}
    assert found == {("margin", 1.0000004, 0.731), ("smooth", None, None)}
    text = markdown_table(summarize(made.evaluations), certified=table)
    margin, smooth = text[text.index("### L2: margin") :].split("### L2: smooth")
    header, _, line = (line for line in margin.splitlines() if line.startswith("|"))
    assert header.endswith("| median radius | Lipschitz constant claimed | measured |")
    assert line.endswith("| 1 | 0.731 |")
    assert header.count("|") == line.count("|")
    assert "Lipschitz" not in smooth


def test_an_experiment_without_certificates_has_no_rows(tmp_path):
    """And no section in the table."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[3:4])
    bare = type(plan)(plan.experiment, plan.variants, plan.seeds, plan.attacks)
    write_table(tmp_path / "certificates.parquet", CERTIFICATE_SCHEMA.empty_table(), bare.metadata())
    table = certified_accuracies(tmp_path / "certificates.parquet")
    assert len(table) == 0
    assert table.schema.equals(CERTIFIED_SCHEMA)


def test_other_files_are_refused(made, tmp_path):
    """A file without a plan, or without certificates, is named."""
    write_table(tmp_path / "none.parquet", CERTIFICATE_SCHEMA.empty_table(), {})
    with pytest.raises(InputError, match=r"none\.parquet"):
        certified_accuracies(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="no certificates file"):
        certified_accuracies(made.evaluations)


def test_the_plan_says_which_certificates_are_not_about_the_model(made):
    """Carried by the file, so that figures from results alone tell them apart."""
    plan = design_from_metadata(read_metadata(made.certificates))
    assert plan == made.plan
    assert plan.of_others == ("smooth",)


def test_the_table_says_whose_accuracy_it_is(made):
    """A certificate of a smoothed classifier is announced as such, that of the model is not; columns end in time."""
    text = markdown_table(summarize(made.evaluations), certified=certified_accuracies(made.certificates))
    model, smoothed = text[text.index("### L2: margin") :].split("### L2: smooth")
    assert "smoothed classifier" not in model
    assert "Of the smoothed classifier, not of the model that the attacks above are on." in smoothed
    header = next(line for line in smoothed.splitlines() if line.startswith("| variant"))
    assert "r = 0 |" in header
    assert "r = 1 |" not in header
