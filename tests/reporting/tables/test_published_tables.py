"""The table of published numbers: measured means, intervals and verdicts, as files, on the page, and from results."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from gauntlet.core.parquet import read_columns, read_table, write_table
from gauntlet.reporting.aggregation import summarize
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.from_results import tables_from_results
from gauntlet.reporting.page import render_report
from gauntlet.reporting.stats import prediction_interval, t_interval, wilson_interval
from gauntlet.reporting.tables.published_files import render_published
from gauntlet.reporting.tables.published_histories import Histories
from gauntlet.reporting.tables.published_lines import interval_text, published_lines, verdict_text
from gauntlet.reporting.tables.published_rows import PUBLISHED_SCHEMA, PublishedEntry, measure_published
from tests.support import synthetic
from tests.support.cells import make_cell

PLAN = synthetic.plan(("softmax", "ecc"), (0, 1, 2), synthetic.ATTACKS[:2])
PLAN = replace(PLAN, titles={"ecc": "ECC_4"})
THREE = [
    [{"epoch": 1, "kr": 10.0}, {"epoch": 2, "kr": 1.0}, {"epoch": 3, "kr": 5.0}],
    [{"epoch": 1, "kr": 2.0}, {"epoch": 2, "kr": 20.0}, {"epoch": 3, "kr": 6.0}],
    [{"epoch": 1, "kr": 30.0}, {"epoch": 2, "kr": 3.0}],
]
SINGLE = [{"epoch": 1, "kr": 9.5, "validation_accuracy": 0.3}, {"epoch": 2, "kr": 1.5, "validation_accuracy": 0.8}]
THREE, (SINGLE,) = ([[{**row, "equal": 0.7} for row in history] for history in kept] for kept in (THREE, [SINGLE]))
HISTORIES = {"softmax": Histories(THREE, [2, 1, 2], 4, 50), "ecc": Histories([SINGLE], [2], 1, 50)}
EPSILON = 0.1


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """Write the results of three seeds."""
    folder = tmp_path_factory.mktemp("results")
    synthetic.write_experiment(folder, PLAN)
    return folder / "evaluations.parquet"


def measure(evaluations, *entries):
    """Compare published numbers, given as arguments of PublishedEntry, with the results."""
    return measure_published(
        "A paper_1",
        [PublishedEntry(*entry) for entry in entries],
        evaluations=evaluations,
        certificates=evaluations.with_name("certificates.parquet"),
        summary=summarize(evaluations),
        histories=HISTORIES,
    )


def test_an_accuracy_is_that_of_the_summary_in_percent(evaluations):
    """Mean over seeds with its t-interval; the verdict says whether one more training may be the published one."""
    attack = PLAN.attacks[0].name
    summary = summarize(evaluations).to_pylist()
    (expected,) = [
        row for row in summary if (row["variant"], row["attack"], row["epsilon"]) == ("softmax", attack, EPSILON)
    ]
    low, high = 100 * expected["t_low"], 100 * expected["t_high"]
    expected_low, expected_high = map(float, prediction_interval(low, high, values=3))
    assert expected_low < low
    values = (expected_low + 0.01, expected_low - 1)
    entries = [("softmax", f"{attack}@0.1", "attack", attack, EPSILON, True, value) for value in values]
    inside, outside = measure(evaluations, *entries).to_pylist()
    for row in (inside, outside):
        assert row["measured"] == pytest.approx(100 * expected["robust_accuracy"])
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        assert (row["expected_low"], row["expected_high"]) == pytest.approx((expected_low, expected_high))
        assert (row["interval"], row["unit"], row["seeds"], row["budget"]) == ("seeds", "%", 3, EPSILON)
        assert row["samples"] == expected["samples"]
    assert (inside["verdict"], outside["verdict"]) == ("inside", "outside")
    assert outside["difference"] == pytest.approx(outside["measured"] - expected_low + 1)


def test_a_mean_over_many_trainings_is_expected_nearer_than_a_single_one(evaluations):
    """So that a published mean can be outside where a single published run is not."""
    attack = PLAN.attacks[0].name
    entry = ("softmax", f"{attack}@0.1", "attack", attack, EPSILON, True, 50.0, None)
    single, mean = measure(evaluations, (*entry, 1), (*entry, 30)).to_pylist()
    assert single["expected_low"] < mean["expected_low"] < mean["low"] < mean["high"] < mean["expected_high"]


def test_columns_of_the_history_are_means_over_the_kept_epochs(evaluations):
    """Not in percent unless they are accuracies; with one seed an accuracy has Wilson's interval."""
    kr, alone, accuracy = measure(
        evaluations,
        ("softmax", "kr", "history", "kr", None, False, 2.5),
        ("ecc", "kr", "history", "kr", None, False, 2.5),
        ("ecc", "validation_accuracy", "history", "validation_accuracy", None, True, 81.0),
    ).to_pylist()
    assert (kr["measured"], kr["unit"], kr["verdict"], kr["missing"]) == (2.0, "", "inside", 1)
    assert (kr["low"], kr["high"]) == pytest.approx(tuple(map(float, t_interval([1.0, 2.0, 3.0]))))
    assert (alone["verdict"], alone["low"], alone["interval"]) == ("one seed", None, None)
    bounds = [100 * float(bound) for bound in wilson_interval(40, 50)]
    assert [accuracy["low"], accuracy["high"]] == pytest.approx(bounds)
    assert (accuracy["interval"], accuracy["verdict"], accuracy["samples"]) == ("samples", "one seed", 50)


def test_equal_seeds_are_no_evidence_that_another_training_is_equal(evaluations):
    """Such as three trainings that keep the same epoch: neither inside nor outside, and the difference is stated."""
    row, alone = measure(
        evaluations, *((variant, "equal", "history", "equal", None, False, 1.7) for variant in ("softmax", "ecc"))
    ).to_pylist()
    assert (row["low"], row["high"], row["interval"]) == (None, None, None)
    assert row["training_std"] == pytest.approx(0.0)
    assert (row["seeds"], row["expected_low"], row["expected_high"]) == (3, None, None)
    assert (row["verdict"], alone["verdict"]) == ("equal seeds", "one seed")
    assert verdict_text(row) == "equal seeds, -1"


RUBBISH = replace(PLAN.attacks[0], name="rubbish", epsilons=(0.1,), counts=False, synthetic=True)
NOISE = ("low_confidence", "rubbish", None, True, 0.0)
COLUMNS = ("variant", "seed", "attack", "status", "adversarial_confidence")


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0,)])
def test_noise_counts_by_its_confidence(tmp_path, seeds):
    """The share of unsure images among those that were made, per seed; a number that is published has a verdict."""
    plan = replace(PLAN, seeds=seeds, attacks=(PLAN.attacks[0], RUBBISH))
    synthetic.write_experiment(tmp_path, plan)
    evaluations = tmp_path / "evaluations.parquet"
    rows = read_columns(evaluations, COLUMNS).to_pylist()
    made = [row for row in rows if (row["attack"], row["status"], row["variant"]) == ("rubbish", "robust", "ecc")]
    by_seed = [[row["adversarial_confidence"] < 0.5 for row in made if row["seed"] == seed] for seed in seeds]
    shares = [100 * sum(unsure) / len(unsure) for unsure in by_seed]
    entry = ("ecc", "rubbish", "low_confidence", "rubbish", None, True, 0.0, None, None, "uniform")
    (row,) = measure(evaluations, entry).to_pylist()
    assert row["measured"] == pytest.approx(sum(shares) / len(shares))
    assert 0 < row["measured"] < 100
    assert (row["unit"], row["seeds"], row["samples"], row["missing"]) == ("%", len(seeds), len(made), 0)
    assert (row["norm"], row["budget"]) == (None, None)
    assert row["note"] == "uniform; share of its images with a confidence below 0.5"
    if len(seeds) > 1:
        assert (row["low"], row["high"]) == pytest.approx(t_interval(np.array(shares)))
        assert (row["interval"], row["verdict"]) == ("seeds", "outside")
    else:
        assert (row["low"], row["high"]) == pytest.approx(
            [100 * bound for bound in wilson_interval(sum(by_seed[0]), len(made))]
        )
        assert (row["interval"], row["verdict"]) == ("samples", "one seed")


def test_missing_noise_is_no_share(tmp_path):
    """Without rows nothing is measured, and every seed is missing; repetitions with other seeds are one mean."""
    again = replace(RUBBISH, name="rubbish_1", repeats="rubbish")
    plan = replace(PLAN, attacks=(PLAN.attacks[0], replace(RUBBISH, repeats="rubbish"), again))
    absent = [("softmax", 0, "rubbish"), ("softmax", 1, "rubbish_1")]
    synthetic.write_experiment(
        tmp_path, plan, absent=[make_cell("evaluate", plan.experiment, *cell) for cell in absent]
    )
    evaluations = tmp_path / "evaluations.parquet"
    entries = [(variant, "rubbish", "low_confidence", "rubbish", None, True, None) for variant in ("softmax", "ecc")]
    partial, whole = measure(evaluations, *entries).to_pylist()
    assert (partial["seeds"], partial["missing"]) == (1, 2)
    assert (whole["seeds"], whole["missing"]) == (3, 0)
    rows = read_columns(evaluations, COLUMNS).to_pylist()
    made = [row for row in rows if (row["variant"], row["status"]) == ("ecc", "robust")]
    cells = [
        [row["adversarial_confidence"] < 0.5 for row in made if (row["seed"], row["attack"]) == (seed, name)]
        for seed in plan.seeds
        for name in ("rubbish", "rubbish_1")
    ]
    assert whole["measured"] == pytest.approx(100 * np.mean([np.mean(cell) for cell in cells]))


def test_the_interval_of_noise_is_over_the_images_of_all_repetitions(tmp_path):
    """The mean of one training is over its repetitions, whose images are not the same; so is its Wilson interval."""
    first, again = (replace(RUBBISH, name=name, repeats="rubbish") for name in ("rubbish", "rubbish_1"))
    plan = replace(PLAN, seeds=(0,), attacks=(PLAN.attacks[0], first, again))
    synthetic.write_experiment(tmp_path, plan)
    (row,) = measure(tmp_path / "evaluations.parquet", ("ecc", "rubbish", *NOISE)).to_pylist()
    rows = read_columns(tmp_path / "evaluations.parquet", COLUMNS).to_pylist()
    made = [one for one in rows if (one["variant"], one["status"]) == ("ecc", "robust") and "rubbish" in one["attack"]]
    unsure = sum(one["adversarial_confidence"] < 0.5 for one in made)
    assert row["measured"] == pytest.approx(100 * unsure / len(made), abs=0.5)
    bounds = [100 * float(bound) for bound in wilson_interval(unsure, len(made))]
    assert [row["low"], row["high"]] == pytest.approx(bounds)
    assert (row["seeds"], row["samples"], row["interval"]) == (1, len(made), "samples")


def test_repetitions_with_other_seeds_attack_the_same_samples(tmp_path):
    """So that they are no further samples, of which the table states the number per training seed."""
    first, again = (replace(PLAN.attacks[0], name=name, repeats="fgsm") for name in ("fgsm", "fgsm_1"))
    plan = replace(PLAN, attacks=(first, again))
    synthetic.write_experiment(tmp_path, plan, samples=40)
    (row,) = measure(
        tmp_path / "evaluations.parquet", ("ecc", "fgsm@0.1", "attack", "fgsm", EPSILON, True, 50.0)
    ).to_pylist()
    assert (row["seeds"], row["samples"]) == (3, 120)
    (line,) = published_lines([row], {})
    assert line.fields[6:8] == ("3", "40")


def test_a_bound_that_rounds_to_zero_has_no_minus_sign():
    """An interval over seeds may begin below 0, also by less than its digits show."""
    row = {"low": -0.04, "high": 0.9, "unit": "%"}
    assert interval_text(row) == "0.0 to 0.9"
    assert interval_text(row | {"low": -0.06}) == "-0.1 to 0.9"
    assert interval_text(row | {"low": -0.04, "unit": ""}) == "-0.04 to 0.9"
    outside = {"verdict": "outside", "unit": "%", "difference": -0.04}
    assert verdict_text(outside) == "outside, +0.0"


def test_columns_of_the_history_at_a_stated_epoch_are_means_over_the_seeds_that_reached_it(evaluations):
    """Whatever epoch was kept; a training that stopped before counts as missing, which a note explains."""
    entries = [
        ("softmax", f"kr@{epoch}", "history", "kr", None, False, 6.0, None, None, None, epoch) for epoch in (1, 3, 4)
    ]
    share = ("ecc", "validation_accuracy@1", "history", "validation_accuracy", None, True, 81.0, None, None, None, 1)
    rows = measure(evaluations, *entries, share)
    first, third, beyond, accuracy = rows.to_pylist()
    assert [first[name] for name in ("measured", "seeds", "missing", "samples")] == [14.0, 3, 1, 150]
    assert [third[name] for name in ("measured", "seeds", "missing", "samples")] == [5.5, 2, 2, 100]
    assert (third["low"], third["high"]) == pytest.approx(tuple(map(float, t_interval([5.0, 6.0]))))
    assert [beyond[name] for name in ("measured", "seeds", "missing", "verdict")] == [None, 0, 4, "missing"]
    assert (accuracy["measured"], accuracy["verdict"]) == (pytest.approx(30.0), "one seed")
    texts = render_published(rows, PLAN.titles)
    assert "| softmax | kr, epoch 3 | 6 | 5.5\\* |" in texts["published.md"]
    assert "| ECC\\_4 | validation accuracy, epoch 1 | 81 | 30.0 |" in texts["published.md"]
    assert "cells are missing, or trainings stopped before the stated epoch: may be too high." in texts["published.md"]
    assert "Not diagnosed" not in texts["published.md"]
    assert "softmax & kr, epoch 1 & 6 & 14" in texts["published.tex"]
    kept = render_published(measure(evaluations, ("softmax", "kr", "history", "kr", None, False, 2.5)), {})
    assert "cells are missing: may be too high." in kept["published.md"]


def test_a_history_without_a_kept_epoch_has_stated_epochs_only():
    """The kept row is then unknown, and no other row is taken for it."""
    histories = Histories(THREE, [None, 1, None], 3, 50)
    assert histories.at(None) == [THREE[1][0]]
    assert histories.at(3) == [THREE[0][2], THREE[1][2]]


def test_a_certificate_without_a_radius_is_at_that_of_the_tables(evaluations, tmp_path):
    """Whatever radii other published numbers state."""
    tables_from_results(evaluations, tmp_path)
    table = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"))))
    (shown,) = [row for row in table if (row["variant"], row["name"]) == ("softmax", "smooth")]
    radii = (0.01, 0.02, 0.03, 0.04, 0.05)
    stated = [("softmax", f"smooth@{one}", "certificate", "smooth", one, True, 50.0) for one in radii]
    first, *others = measure(
        evaluations, ("softmax", "smooth", "certificate", "smooth", None, True, 50.0), *stated
    ).to_pylist()
    assert first["budget"] == float(shown["epsilon"])
    assert first["measured"] == pytest.approx(100 * float(shown["accuracy"]))
    assert [row["budget"] for row in others] == list(radii)


def test_printed_bounds_agree_with_the_verdict(evaluations):
    """They have more digits where the published value would seem to be on the other side of a rounded bound."""
    attack = PLAN.attacks[0].name
    entry = ("softmax", f"{attack}@0.1", "attack", attack, EPSILON, True)
    (first,) = measure(evaluations, (*entry, 50.0)).to_pylist()
    low = first["expected_low"]
    digits = f"{low:.1f}"
    assert float(digits) != low
    for value in (float(digits), low - 0.001, low + 0.001, low + 5):
        (row,) = measure(evaluations, (*entry, value)).to_pylist()
        (line,) = published_lines([row], {})
        printed = [float(end) for end in line.fields[5].split(" to ")]
        assert (printed[0] <= value <= printed[1]) == (row["verdict"] == "inside")
        assert printed[0] == pytest.approx(low, abs=0.0500001)
    assert line.fields[5].startswith(f"{digits} to ")


def test_a_note_that_ends_a_sentence_has_one_full_stop(evaluations):
    """The notes and the source are text of the user's own, with or without a full stop."""
    entries = [
        ("ecc", "clean", "clean", "clean", None, True, 1.0, None, None, note) for note in ("Table 2.", "mean of 3 runs")
    ]
    for reference, end in (("Authors et al.", "et al."), ("A paper", "A paper."), ("Is it robust?", "robust?")):
        rows = [row | {"reference": reference} for row in measure(evaluations, *entries).to_pylist()]
        texts = render_published(pa.Table.from_pylist(rows, schema=PUBLISHED_SCHEMA), {})
        assert f"{end}\n" in texts["published.md"]
        assert f"{end} Accuracies in percent" in texts["published.tex"]
        assert "clean: Table 2.\n" in texts["published.md"]
        assert "clean: mean of 3 runs.\n" in texts["published.md"]
        assert ".." not in texts["published.md"] + texts["published.tex"]


def test_the_files_and_the_page_have_every_number(evaluations, tmp_path):
    """Markdown, LaTeX, CSV and the page state the same texts; results alone give the same files."""
    attack = PLAN.attacks[0].name
    rows = measure(
        evaluations,
        ("ecc", "clean", "clean", "clean", None, True, 1.25, 0.5, 3, "epoch 100"),
        ("ecc", f"{attack}@0.1", "attack", attack, EPSILON, True, 50.0),
    )
    texts = render_published(rows, PLAN.titles)
    clean = rows.to_pylist()[0]
    number, difference = f"{clean['measured']:.1f}", f"outside, {clean['measured'] - 1.25:+.1f}"
    assert f"| ECC\\_4 | clean | 1.25 (std 0.5), 3 seeds | {number}" in texts["published.md"]
    assert f"**{difference}**" in texts["published.md"]
    assert "ecc, clean: epoch 100." in texts["published.md"]
    assert r"ECC\_4 & clean & 1.25" in texts["published.tex"]
    assert "Source: A paper\\_1." in texts["published.tex"]
    records = list(csv.DictReader(io.StringIO(texts["published.csv"])))
    assert [float(row["measured"]) for row in records] == [row["measured"] for row in rows.to_pylist()]

    kept = evaluations.with_name("published.parquet")
    write_table(kept, rows, {})
    try:
        written = {path.name: path.read_text() for path in tables_from_results(evaluations, tmp_path)}
        page = render_report(find_inputs(evaluations), figures={})
    finally:
        kept.unlink()
    assert {name: written[name] for name in texts} == texts
    assert '<h2 id="published">' in page
    assert f"<strong>{difference}</strong>" in page
    assert '<h2 id="published">' not in render_report(find_inputs(evaluations), figures={})
    assert "published.md" not in {path.name for path in tables_from_results(evaluations, tmp_path)}
    assert read_table(evaluations.with_name("summary.parquet")).num_rows
