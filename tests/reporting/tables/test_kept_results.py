"""Kept tables: every number of a results folder, with what made it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import summarize
from gauntlet.reporting.aggregation.origins import ORIGINS_SCHEMA
from gauntlet.reporting.kept_results import keep_results, kept_text, read_kept
from gauntlet.reporting.tables.published_histories import Histories
from gauntlet.reporting.tables.published_rows import PublishedEntry, measure_published
from gauntlet.robustness.diagnostics.checks import add_verdicts
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import synthetic
from tests.support.cells import make_cell

PLAN = synthetic.plan(("softmax", "ecc"), (0, 1, 2), synthetic.ATTACKS[:2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write the results of three seeds, with one published number."""
    folder = tmp_path_factory.mktemp("results")
    synthetic.write_experiment(folder, PLAN)
    evaluations = folder / "evaluations.parquet"
    attack = PLAN.attacks[0].name
    published = measure_published(
        "A paper",
        [PublishedEntry("ecc", attack, "attack", attack, 0.1, is_share=True, value=50.0)],
        evaluations=evaluations,
        certificates=folder / "certificates.parquet",
        summary=summarize(evaluations),
        histories={},
    )
    write_table(folder / "published.parquet", published, {})
    write_table(folder / "origins.parquet", pa.Table.from_pylist(list(origins()), ORIGINS_SCHEMA), {})
    return folder


def origins():
    """Yield what made each model and evaluation: the later commit and date are those of one attack."""
    for variant in PLAN.variants:
        for seed in PLAN.seeds:
            model = {"variant": variant, "seed": seed, "commit": "a" * 40, "finished": "2026-01-02T03:04:05Z"}
            yield model | {"stage": "train"}
            for attack, commit, day in zip(PLAN.attacks, ("a", "b"), (2, 3), strict=True):
                made = {"commit": commit * 40, "finished": f"2026-01-0{day}T03:04:05Z"}
                yield model | made | {"stage": "evaluate", "name": attack.name}


def test_the_summary_is_kept_whole_and_published_numbers_once(folder, tmp_path):
    """A row per clean accuracy, attack, worst case and budget; what is published has its value and is not repeated."""
    rows = keep_results(folder, machine="two cores", command="a command")
    attack = PLAN.attacks[0].name
    (published,) = [row for row in rows if row["published"] is not None]
    assert (published["quantity"], published["verdict"]) == (attack, published["verdict"] or "")
    keys = [(row["variant"], row["quantity"].partition("@")[0], row["budget"]) for row in rows]
    assert len(set(keys)) == len(keys)
    accuracies = {key: row["measured"] for key, row in zip(keys, rows, strict=True)}
    summary = summarize(folder / "evaluations.parquet").to_pylist()
    for row in summary:
        name = "worst case" if row["attack"].startswith("worst:") else row["attack"]
        key = row["variant"], name, row["epsilon"]
        assert accuracies[key] == pytest.approx(100 * row["robust_accuracy"]), key
        assert accuracies[row["variant"], "clean", None] == pytest.approx(100 * row["clean_accuracy"])
    certified = [row["budget"] for row in rows if row["quantity"].endswith("@0")]
    assert certified == [0.0 for certificate in PLAN.certificates for _ in certificate.variants]
    assert len(rows) == len(summary) + len(PLAN.variants) + len(certified)
    (tmp_path / "kept.csv").write_text(kept_text(rows))
    assert [row["measured"] for row in read_kept(tmp_path / "kept.csv")] == [row["measured"] for row in rows]


def test_the_documented_command_prints_the_table(folder):
    """As docs/tables.md has it."""
    command = [sys.executable, "-m", "gauntlet.reporting.kept_results", str(folder), "two cores", "a command"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == kept_text(keep_results(folder, machine="two cores", command="a command"))


def test_a_stated_epoch_names_the_seeds_whose_trainings_reached_it(folder, tmp_path):
    """Trainings that stopped before have no part in the mean; the kept epoch is that of all."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    ends = {0: 30, 1: 27, 2: 24}
    rows, kept = [], []
    for seed in PLAN.seeds:
        table = synthetic.history(make_cell("train", PLAN.experiment, "ecc", seed))
        path = tmp_path / "models" / "variant=ecc" / f"seed={seed}" / "history.parquet"
        path.parent.mkdir(parents=True)
        write_table(path, table, {})
        rows.append(table.to_pylist())
        kept.append(5)
    assert [len(history) for history in rows] == list(ends.values())
    column, share = "validation_accuracy", {"is_share": True, "value": 90.0}
    evaluations = tmp_path / "evaluations.parquet"
    published = measure_published(
        "A paper",
        [
            PublishedEntry("ecc", column, "history", column, None, **share),
            PublishedEntry("ecc", f"{column}@27", "history", column, None, **share, epoch=27),
            PublishedEntry("ecc", f"{column}@31", "history", column, None, **share, epoch=31),
        ],
        evaluations=evaluations,
        certificates=tmp_path / "certificates.parquet",
        summary=summarize(evaluations),
        histories={"ecc": Histories(rows, kept, 3, 50)},
    )
    write_table(tmp_path / "published.parquet", published, {})
    kept_rows = keep_results(tmp_path, machine="two cores", command="a command")[:3]
    assert [row["quantity"] for row in kept_rows] == [column, f"{column}@27", f"{column}@31"]
    assert [(row["seeds"], row["training_seeds"]) for row in kept_rows] == [(3, "0 1 2"), (2, "0 1"), (0, "")]


def test_failed_checks_are_kept_with_every_number_that_they_concern(folder, tmp_path):
    """Of numbers without a published value too; a folder without diagnostics has none."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    measured = [Measurement.share("zero_gradients", "linf", range(90), 100, "no gradient")]
    rows = measurement_table(measured, experiment=PLAN.experiment, variant="ecc", seed=0)
    write_table(tmp_path / "diagnostics.parquet", add_verdicts(rows), {})
    kept = keep_results(tmp_path, machine="two cores", command="a command")
    flagged = {(row["variant"], row["quantity"].partition("@")[0]) for row in kept if row["flags"]}
    attacks = [attack.name for attack in PLAN.attacks]
    assert flagged >= {("ecc", name) for name in (*attacks[1:], "worst case")}
    assert not any(row["flags"] for row in kept if row["variant"] == "softmax" or row["quantity"] == "clean")
    assert not any(row["flags"] for row in keep_results(folder, machine="two cores", command="a command"))


def test_each_row_states_its_seeds_commits_date_and_command(folder):
    """From the metadata of the models and of what measured them."""
    first, second = (attack.name for attack in PLAN.attacks)
    made = {first: ("aaaaaaa", "2026-01-02"), second: ("aaaaaaa, bbbbbbb", "2026-01-03")}
    # The worst case is over both attacks.
    made["worst case"] = made[second]
    for row in keep_results(folder, machine="two cores", command="a command"):
        assert (row["machine"], row["command"], row["training_seeds"]) == ("two cores", "a command", "0 1 2")
        assert (row["commit"], row["date"]) == made.get(row["quantity"].partition("@")[0], made[first])


def test_repetitions_with_other_seeds_are_one_row(tmp_path):
    """Their mean, as in tables and published numbers, with what made each of them."""
    attacks = [replace(attack, repeats=PLAN.attacks[1].name) for attack in PLAN.attacks[1:]]
    attacks.append(replace(attacks[0], name="pgd_1"))
    plan = replace(PLAN, attacks=tuple(attacks), certificates=())
    synthetic.write_experiment(tmp_path, plan, samples=40)
    made = [
        {"variant": "ecc", "seed": seed, "stage": stage, "name": name, "commit": commit * 40, "finished": "2026-01-02"}
        for seed in plan.seeds
        for stage, name, commit in (("train", None, "a"), ("evaluate", "pgd", "a"), ("evaluate", "pgd_1", "b"))
    ]
    write_table(tmp_path / "origins.parquet", pa.Table.from_pylist(made, ORIGINS_SCHEMA), {})
    rows = [row for row in keep_results(tmp_path, machine="", command="") if row["variant"] == "ecc"]
    assert not any(row["quantity"].startswith("pgd_1") for row in rows)
    summary = summarize(tmp_path / "evaluations.parquet").to_pylist()
    for row in (row for row in rows if row["quantity"].startswith("pgd")):
        both = [
            one["robust_accuracy"]
            for one in summary
            if one["variant"] == "ecc" and one["attack"].startswith("pgd") and one["epsilon"] == row["budget"]
        ]
        assert row["measured"] == pytest.approx(50 * sum(both))
        assert row["commit"] == "aaaaaaa, bbbbbbb"


def test_noise_is_kept_by_its_confidence_and_has_no_accuracy(tmp_path):
    """One row per variant that the attack is run on, after the accuracies, which have no budgets of it."""
    noise = replace(PLAN.attacks[0], name="rubbish", epsilons=(1.0,), counts=False, synthetic=True, without=("ecc",))
    plan = replace(PLAN, attacks=(PLAN.attacks[0], noise), certificates=())
    synthetic.write_experiment(tmp_path, plan)
    write_table(tmp_path / "origins.parquet", pa.Table.from_pylist([], ORIGINS_SCHEMA), {})
    rows = keep_results(tmp_path, machine="", command="")
    assert [(row["variant"], row["quantity"], row["budget"]) for row in rows if "rubbish" in row["quantity"]] == [
        ("softmax", "rubbish", None)
    ]
    assert rows[-1]["note"] == "share of its images with a confidence below 0.5"
    assert not any(row["budget"] == 1.0 for row in rows)
