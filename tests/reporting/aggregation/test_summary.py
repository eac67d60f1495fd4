"""The summary against values computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats as reference

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import write_table
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.reporting.aggregation import AttackDesign, combine, summarize
from tests.support import synthetic
from tests.support.cells import make_cell
from tests.support.shared_wilson import shared_wilson

GRID = (0.1, 0.2, 0.3)


def _write(folder, plan, tables):
    """Combine cell tables by (variant, seed, attack); others are missing."""
    files = {}
    for cell in synthetic.cells(plan):
        files[cell] = folder / f"{cell.variant}-{cell.seed}-{cell.name}.parquet"
        table = tables.get((cell.variant, cell.seed, cell.name))
        if table is not None:
            write_table(files[cell], table, {})
    combine(files, folder / "evaluations.parquet", design=plan, allow_missing=True)
    return folder / "evaluations.parquet"


def _cell(plan, variant, seed, attack, outcomes):
    """Return the rows of a cell from one (status, budget) per sample."""
    planned = next(item for item in plan.attacks if item.name == attack)
    columns = {
        "experiment": [plan.experiment] * len(outcomes),
        "variant": [variant] * len(outcomes),
        "seed": [seed] * len(outcomes),
        "attack": [attack] * len(outcomes),
        "norm": [planned.norm] * len(outcomes),
        "index": list(range(len(outcomes))),
        "label": [1] * len(outcomes),
        "clean_prediction": [0 if status == "already_wrong" else 1 for status, _ in outcomes],
        "adversarial_prediction": [1 if status == "robust" else 0 for status, _ in outcomes],
        "epsilon": pa.array([budget for _, budget in outcomes], pa.float64()),
        **{norm: [(budget or 0.0) / 2 for _, budget in outcomes] for norm in synthetic.NORMS},
        "clean_confidence": [1.0] * len(outcomes),
        "adversarial_confidence": [1.0] * len(outcomes),
        "forwards": [1] * len(outcomes),
        "backwards": [1] * len(outcomes),
        "zero_gradients": [0] * len(outcomes),
        "nonfinite_gradients": [0] * len(outcomes),
        "status": [status for status, _ in outcomes],
        "sample_hash": [str(number) for number in range(len(outcomes))],
    }
    return synthetic.table(columns, EVALUATION_SCHEMA)


def _calibration_error(rows):
    """Return the expected calibration error of one cell's clean predictions, counted bin by bin."""
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        members = [
            row for row in rows if low < row["clean_confidence"] <= high or number == row["clean_confidence"] == 0
        ]
        correct = sum(row["clean_prediction"] == row["label"] for row in members)
        total += abs(correct - sum(row["clean_confidence"] for row in members)) / len(rows)
    return total


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_calibration_error_is_that_of_each_seed_averaged(tmp_path, seeds):
    """It is computed from clean predictions and confidences, also in the worst case; perfect calibration gives 0."""
    plan = synthetic.plan(("x", "y"), seeds, (AttackDesign("a", "linf", GRID), AttackDesign("b", "linf", GRID)))
    tables = {}
    for variant, seed, attack in plan.cells():
        cell = np.random.default_rng(seed)
        outcomes = [("already_wrong", 0.0) if wrong else ("robust", None) for wrong in cell.random(60) < 0.4]
        confidence = cell.choice([0.0, 1 / 15, 0.2, 0.61, 0.97, 1.0], 60) if variant == "x" else None
        if variant == "y":
            outcomes, confidence = [("robust", None)] * 45 + [("already_wrong", 0.0)] * 15, np.full(60, 0.75)
        table = _cell(plan, variant, seed, attack, outcomes)
        column = table.schema.get_field_index("clean_confidence")
        values = pa.array(np.asarray(confidence, np.float32))
        tables[variant, seed, attack] = table.set_column(column, table.schema.field(column), values)
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    for row in rows:
        cells = [tables[row["variant"], seed, "a"].to_pylist() for seed in seeds]
        assert row["calibration_error"] == pytest.approx(
            np.mean([_calibration_error(cell) for cell in cells]), abs=1e-7
        )
        assert (row["calibration_error"] == 0) == (row["variant"] == "y")


def test_a_transfer_has_no_missing_cell_for_its_source(tmp_path):
    """The source variant has no row, and its worst case is over the other attacks."""
    attacks = (AttackDesign("a", "linf", GRID), AttackDesign("t", "linf", GRID, without=("x",)))
    plan = synthetic.plan(("x", "y"), (0,), attacks)
    outcomes = {"a": [("robust", None), ("adversarial", 0.2)], "t": [("adversarial", 0.1), ("robust", None)]}
    tables = {key: _cell(plan, *key, outcomes[key[2]]) for key in plan.cells()}
    assert set(tables) == {("x", 0, "a"), ("y", 0, "a"), ("y", 0, "t")}
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    assert {(row["variant"], row["attack"]) for row in rows} == {
        ("x", "worst:linf"), ("x", "a"), ("y", "worst:linf"), ("y", "a"), ("y", "t")
    }  # fmt: skip
    assert not any(row["missing"] for row in rows)
    worst = {row["variant"]: row["robust_accuracy"] for row in rows if row["attack"] == "worst:linf"}
    assert worst == {"x": 0.5, "y": 0.0}


def test_attacks_that_are_no_perturbations_are_not_in_the_worst_case(tmp_path):
    """They extend no grid and have rows of their own."""
    attacks = (AttackDesign("a", "linf", GRID), AttackDesign("rubbish", "linf", (1.0,), counts=False))
    plan = synthetic.plan(("x",), (0,), attacks)
    outcomes = {"a": [("robust", None), ("adversarial", 0.2)], "rubbish": [("robust", None), ("robust", None)]}
    tables = {key: _cell(plan, *key, outcomes[key[2]]) for key in plan.cells()}
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    worst = [row for row in rows if row["attack"] == "worst:linf"]
    assert [row["epsilon"] for row in worst] == list(GRID)
    assert {row["attacks"] for row in worst} == {1}


def _random_experiment(seed):
    """Draw an experiment of unrelated rows: every status, every budget, any order of outcomes."""
    draw = np.random.default_rng(seed)
    attacks = (
        AttackDesign("a", "linf", GRID),
        AttackDesign("b", "linf", (0.2, 0.4)),
        AttackDesign("c", "linf", None),
        AttackDesign("d", "l2", None),
        AttackDesign("e", "l2", None),
    )
    plan = synthetic.plan(("x", "y"), (3, 1, 2)[: seed % 3 + 1], attacks)
    tables = {}
    for variant in plan.variants:
        for number in plan.seeds:
            wrong = draw.random(40) < 0.2
            for attack in attacks:
                outcomes = []
                for already in wrong:
                    budget = draw.choice(attack.epsilons) if attack.epsilons else draw.exponential(0.2)
                    kind = draw.choice(["adversarial", "robust", "error"], p=[0.6, 0.3, 0.1])
                    outcomes.append(
                        ("already_wrong", 0.0) if already else (kind, budget if kind == "adversarial" else None)
                    )
                tables[variant, number, attack.name] = _cell(plan, variant, number, attack.name, outcomes)
    return plan, tables


def _by_hand(plan, tables, variant, attacks, epsilon):
    """Return the columns of a row counted sample by sample in plain Python, seed by seed."""
    shares, cleans, distances, errors, samples = [], [], [], 0, 0
    survivals = []
    for seed in plan.seeds:
        rows = [tables[variant, seed, name].to_pylist() for name in attacks]
        clean, survived = 0, []
        for outcomes in zip(*rows, strict=True):
            survived.append(
                all(
                    row["status"] != "error" and (row["epsilon"] is None or row["epsilon"] > epsilon)
                    for row in outcomes
                )
            )
            clean += outcomes[0]["clean_prediction"] == outcomes[0]["label"]
            errors += any(row["status"] == "error" for row in outcomes)
            found = [row[row["norm"]] for row in outcomes if row["status"] == "adversarial"]
            distances += [min(found)] if found else []
        samples += len(rows[0])
        survivals.append(survived)
        shares.append(sum(survived) / len(survived))
        cleans.append(clean / len(rows[0]))
    wilson = shared_wilson(survivals)
    mean, count = np.mean(shares), len(shares)
    has_spread = np.ptp(shares) > 1e-12
    spread = reference.t.ppf(0.975, count - 1) * np.std(shares, ddof=1) / np.sqrt(count) if has_spread else None
    return {
        "seeds": count,
        "samples": samples,
        "attacks": len(attacks),
        "errors": errors,
        "clean_accuracy": np.mean(cleans),
        "robust_accuracy": mean,
        "wilson_low": wilson[0],
        "wilson_high": wilson[1],
        "t_low": None if spread is None else mean - spread,
        "t_high": None if spread is None else mean + spread,
        "training_std": np.std(shares, ddof=1) if count > 1 else None,
        "median_distance": np.median(distances),
        "missing": 0,
    }


@pytest.mark.parametrize("seed", range(6))
def test_every_number_equals_a_count_by_hand(tmp_path, seed):
    """Each row, worst cases included, equals a count of the samples."""
    plan, tables = _random_experiment(seed)
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    names = {f"worst:{norm}": [item.name for item in plan.attacks_in(norm)] for norm in plan.norms}
    names |= {item.name: [item.name] for item in plan.attacks}
    assert {(row["variant"], row["attack"]) for row in rows} == {(v, name) for v in plan.variants for name in names}
    for row in rows:
        expected = _by_hand(plan, tables, row["variant"], names[row["attack"]], row["epsilon"])
        found = {key: row[key] for key in expected}
        assert found == pytest.approx(expected, abs=1e-6), (row["variant"], row["attack"], row["epsilon"])


@pytest.mark.parametrize("seed", range(3))
def test_worst_case_bounds_every_attack_and_falls_with_the_budget(tmp_path, seed):
    """The worst case is at most each attack's accuracy, and a larger budget never raises it."""
    plan, tables = _random_experiment(seed)
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    worst = {(r["variant"], r["norm"], r["epsilon"]): r["robust_accuracy"] for r in rows if ":" in r["attack"]}
    for row in rows:
        assert worst[row["variant"], row["norm"], row["epsilon"]] <= row["robust_accuracy"] + 1e-12
    for variant, attack in {(row["variant"], row["attack"]) for row in rows}:
        curve = [row["robust_accuracy"] for row in rows if (row["variant"], row["attack"]) == (variant, attack)]
        assert curve == sorted(curve, reverse=True)


def test_two_attacks_that_fool_different_samples_leave_none(tmp_path):
    """The worst case is the minimum per sample, not the lowest mean."""
    plan = synthetic.plan(("x",), (0,), (AttackDesign("a", "linf", GRID), AttackDesign("b", "linf", GRID)))
    hit, miss = ("adversarial", 0.1), ("robust", None)
    tables = {
        ("x", 0, "a"): _cell(plan, "x", 0, "a", [hit, hit, miss, miss]),
        ("x", 0, "b"): _cell(plan, "x", 0, "b", [miss, miss, hit, hit]),
    }
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    at = {row["attack"]: row["robust_accuracy"] for row in rows if row["epsilon"] == 0.3}
    assert at == {"a": 0.5, "b": 0.5, "worst:linf": 0.0}


def test_an_error_never_counts_as_robust(tmp_path):
    """A sample with an error counts as fooled at every budget, also in the worst case."""
    plan = synthetic.plan(("x",), (0,), (AttackDesign("a", "linf", GRID), AttackDesign("b", "linf", GRID)))
    tables = {
        ("x", 0, "a"): _cell(plan, "x", 0, "a", [("error", None), ("error", 0.3), ("robust", None)]),
        ("x", 0, "b"): _cell(plan, "x", 0, "b", [("robust", None)] * 3),
    }
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    first = {row["attack"]: row for row in rows if row["epsilon"] == 0.1}
    assert [first[name]["robust_accuracy"] for name in ("a", "b", "worst:linf")] == pytest.approx([1 / 3, 1, 1 / 3])
    assert [first[name]["errors"] for name in ("a", "b", "worst:linf")] == [2, 0, 2]


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 0.7, 8 / 255])
def test_a_sample_fooled_at_a_budget_is_not_robust_there(tmp_path, epsilon):
    """Robust at a budget means fooled above it only, whatever the number's float32."""
    plan = synthetic.plan(("x",), (0,), (AttackDesign("a", "linf", (epsilon,)),))
    table = _cell(plan, "x", 0, "a", [("adversarial", epsilon), ("robust", None)])
    rows = summarize(_write(tmp_path, plan, {("x", 0, "a"): table})).to_pylist()
    assert {row["robust_accuracy"] for row in rows} == {0.5}
    assert {row["epsilon"] for row in rows} == {epsilon}


def test_measured_distances_are_stated_on_the_grid_of_the_bounded_attacks(tmp_path):
    """A minimum-norm attack is reported at the budgets of its norm."""
    plan = synthetic.plan(attacks=synthetic.ATTACKS, variants=("softmax",), seeds=(0,))
    tables = {
        ("softmax", 0, a.name): synthetic.evaluation(c, a)
        for c, a in zip(synthetic.cells(plan), plan.attacks, strict=True)
    }
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    budgets = {name: [row["epsilon"] for row in rows if row["attack"] == name] for name in ("cw", "spsa", "worst:linf")}
    assert budgets == {"cw": list(synthetic.L2), "spsa": [0.1], "worst:linf": list(synthetic.LINF)}


def test_without_bounded_attacks_the_distances_make_the_grid(tmp_path):
    """The budgets cover the distances, from nearly full to nearly no accuracy."""
    plan = synthetic.plan(("softmax",), (0,), (AttackDesign("cw", "l2", None),))
    cell = synthetic.cells(plan)[0]
    table = synthetic.evaluation(cell, plan.attacks[0], samples=400, clean=1.0)
    rows = summarize(_write(tmp_path, plan, {("softmax", 0, "cw"): table})).to_pylist()
    curve = [row["robust_accuracy"] for row in rows if row["attack"] == "cw"]
    assert len(curve) >= 8
    assert curve[0] > 0.8
    assert curve[-1] < 0.05


def test_when_nothing_was_ever_fooled_the_clean_accuracy_is_left(tmp_path):
    """Without distances there is one row at ε = 0."""
    plan = synthetic.plan(("x",), (0,), (AttackDesign("cw", "l2", None),))
    table = _cell(plan, "x", 0, "cw", [("robust", None), ("already_wrong", 0.0)])
    rows = summarize(_write(tmp_path, plan, {("x", 0, "cw"): table})).to_pylist()
    assert [(row["epsilon"], row["robust_accuracy"], row["median_distance"]) for row in rows] == [(0.0, 0.5, None)] * 2


def test_missing_cells_are_counted_and_never_filled_in(tmp_path):
    """A missing seed is counted, also in the worst case, and a missing attack has rows without numbers."""
    plan, tables = _random_experiment(2)
    for seed in plan.seeds:
        del tables["x", seed, "b"]
    del tables["x", plan.seeds[0], "a"]
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    of = {(row["variant"], row["attack"]): row for row in rows}
    assert of["x", "b"]["robust_accuracy"] is None
    assert (of["x", "b"]["seeds"], of["x", "b"]["missing"]) == (0, 3)
    assert (of["x", "a"]["seeds"], of["x", "a"]["missing"]) == (2, 1)
    assert (of["x", "worst:linf"]["attacks"], of["x", "worst:linf"]["missing"]) == (2, 4)
    assert of["y", "worst:linf"]["missing"] == 0


def test_rows_follow_the_plan_and_start_with_the_worst_case(tmp_path):
    """Variants, norms and attacks are in the order of the configuration."""
    plan, tables = _random_experiment(0)
    rows = summarize(_write(tmp_path, plan, tables)).to_pylist()
    order = list(dict.fromkeys((row["variant"], row["attack"]) for row in rows))
    attacks = ["worst:linf", "a", "b", "c", "worst:l2", "d", "e"]
    assert order == [(variant, attack) for variant in ("x", "y") for attack in attacks]


def test_a_file_without_a_plan_is_summarized_by_its_rows(tmp_path):
    """Rows collected by a query give the same numbers."""
    plan, tables = _random_experiment(1)
    with_plan = summarize(_write(tmp_path, plan, tables))
    rows = pa.concat_tables(tables.values())
    pq.write_table(rows, tmp_path / "plain.parquet")
    assert summarize(tmp_path / "plain.parquet").equals(with_plan)


def test_names_are_data_not_sql(tmp_path):
    """Quotes in names and folders are not part of a query."""
    attack = AttackDesign("a'; DROP VIEW evaluations; --", "linf", GRID)
    plan = replace(synthetic.plan(("x' OR '1'='1",), (0,), (attack,)), experiment='e"')
    folder = tmp_path / "it's [a] *folder*"
    folder.mkdir()
    table = _cell(plan, plan.variants[0], 0, attack.name, [("robust", None), ("adversarial", 0.1)])
    path = folder / "rows.parquet"
    cell = make_cell("evaluate", plan.experiment, plan.variants[0], 0, attack.name)
    write_table(path, table, {})
    combine({cell: path}, folder / "evaluations.parquet", design=plan)
    assert set(summarize(folder / "evaluations.parquet")["robust_accuracy"].to_pylist()) == {0.5}


def test_an_experiment_without_rows_has_an_empty_summary(tmp_path):
    """Without attacks there is no row and no error."""
    path = tmp_path / "evaluations.parquet"
    write_table(path, EVALUATION_SCHEMA.empty_table(), synthetic.plan(attacks=()).metadata())
    assert len(summarize(path)) == 0


def test_another_table_is_refused(tmp_path):
    """A parquet file with other columns is refused by name."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet.*not an evaluations file"):
        summarize(tmp_path / "other.parquet")


def test_a_better_loss_flags_what_rests_on_the_cross_entropy_alone(tmp_path):
    """The worst case, and attacks without gradients or with another loss, keep their numbers unmarked."""
    losses = {"fgsm": ("cross_entropy",), "pgd": ("cross_entropy", "margin"), "square": None}
    attacks = tuple(AttackDesign(name, "linf", synthetic.LINF, losses=used) for name, used in losses.items())
    plan = synthetic.plan(attacks=attacks)
    file = tmp_path / "evaluations.parquet"
    combine(synthetic.write_evaluations(tmp_path, plan, samples=20), file, design=plan)
    flags = {(plan.variants[0], "linf"): ("margin_beats_cross_entropy",)}
    rows = [row for row in summarize(file, flags=flags).to_pylist() if row["variant"] == plan.variants[0]]
    assert {row["attack"] for row in rows if row["flags"]} == {"fgsm"}
    assert {row["attack"] for row in rows} == {"worst:linf", *losses}
