"""Success, cost and optimality of attacks against values computed by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import read_table, write_table
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.reporting.aggregation import AttackDesign, AttackRun, combine, measure_attacks
from gauntlet.reporting.aggregation.attacks import ATTACKS_SCHEMA, ATTACKS_VOLATILE
from tests.support import synthetic

INF = np.inf
WRONG = "wrong"


def _cell(plan, variant, seed, attack, distances, uses=None):
    """Return the rows of a cell from one distance per sample, in the attack's norm or per norm; INF, or WRONG."""
    count = len(distances)
    norm = next(item.norm for item in plan.attacks if item.name == attack)
    sizes = [value if isinstance(value, dict) else dict.fromkeys(synthetic.NORMS, value) for value in distances]
    wrong = [value == WRONG for value in distances]
    fooled = [not bad and size[norm] != INF for bad, size in zip(wrong, sizes, strict=True)]
    names = {"experiment": plan.experiment, "variant": variant, "seed": seed, "attack": attack, "norm": norm}
    columns = {name: [value] * count for name, value in names.items()} | {
        "index": list(range(count)),
        "label": [1] * count,
        "clean_prediction": [0 if bad else 1 for bad in wrong],
        "adversarial_prediction": [0 if bad or yes else 1 for bad, yes in zip(wrong, fooled, strict=True)],
        "epsilon": pa.array(
            [0.0 if bad else size[norm] if yes else None for bad, yes, size in zip(wrong, fooled, sizes, strict=True)],
            pa.float64(),
        ),
        **{
            key: [size[key] if yes else 0.0 for yes, size in zip(fooled, sizes, strict=True)] for key in synthetic.NORMS
        },
        "clean_confidence": [1.0] * count,
        "adversarial_confidence": [1.0] * count,
        "forwards": uses[0] if uses else [1] * count,
        "backwards": uses[1] if uses else [1] * count,
        "zero_gradients": [0] * count,
        "nonfinite_gradients": [0] * count,
        "status": [
            "already_wrong" if bad else "adversarial" if yes else "robust"
            for bad, yes in zip(wrong, fooled, strict=True)
        ],
        "sample_hash": [str(number) for number in range(count)],
    }
    return synthetic.table(columns, EVALUATION_SCHEMA)


def _measure(folder, attacks, cells, runs=None, variants=("v",), seeds=(0,)):
    """Measure cells given as {(variant, seed, attack): table}; others are missing."""
    plan = synthetic.plan(variants, seeds, attacks)
    files = {}
    for cell in synthetic.cells(plan):
        key = cell.variant, cell.seed, cell.name
        files[cell] = folder / f"{'-'.join(map(str, key))}.parquet"
        if key in cells:
            write_table(files[cell], cells[key](plan, *key), {})
    combine(files, folder / "evaluations.parquet", design=plan, allow_missing=True)
    table = measure_attacks(folder / "evaluations.parquet", runs)
    assert table.schema == ATTACKS_SCHEMA
    return {(row["variant"], row["seed"], row["attack"]): row for row in table.to_pylist()}


def _given(distances, uses=None):
    return lambda plan, *key: _cell(plan, *key, distances, uses)


LINF = [AttackDesign("a", "linf", None), AttackDesign("b", "linf", None)]


def test_optimality_of_a_small_example(tmp_path):
    """Four samples: one misclassified, one that only `a` fools, a tie, one that only `b` fools.

    d* = 0, 2, 1, 1.5, so the bound is 2 and A* = 4.5 / 4. a has 0, 2, 1, ∞, so A = 5 / 4; b has 0, ∞, 1, 1.5, and
    distances beyond the bound do not count, so A = 4.5 / 4. Clean accuracy times bound is 6 / 4.
    """
    rows = {("v", 0, "a"): _given([WRONG, 2.0, 1.0, INF]), ("v", 0, "b"): _given([WRONG, INF, 1.0, 1.5])}
    found = _measure(tmp_path, LINF, rows)
    assert found["v", 0, "a"]["optimality"] == pytest.approx(1 - 0.5 / 1.5)
    assert found["v", 0, "b"]["optimality"] == pytest.approx(1.0)
    assert [found["v", 0, name]["broken"] for name in "ab"] == [2, 2]
    assert found["v", 0, "a"]["attacked"] == 3
    assert found["v", 0, "a"]["success_rate"] == pytest.approx(2 / 3)


def test_optimality_reaches_both_ends_of_its_scale(tmp_path):
    """The only successful attack has 1, and one that fools nothing 0."""
    found = _measure(tmp_path, LINF[:1], {("v", 0, "a"): _given([WRONG, 0.1, 0.37, INF])})
    assert found["v", 0, "a"]["optimality"] == 1.0
    rows = {("v", 0, "a"): _given([WRONG, 0.1, 0.37, INF]), ("v", 0, "b"): _given([WRONG, INF, INF, INF])}
    found = _measure(tmp_path, LINF, rows)
    assert (found["v", 0, "a"]["optimality"], found["v", 0, "b"]["optimality"]) == (1.0, 0.0)


def test_optimality_is_undefined_without_differences(tmp_path):
    """All samples are robust, misclassified, or fooled at one distance."""
    for distances in ([INF, INF], [WRONG, WRONG], [WRONG, 0.5, 0.5, INF]):
        found = _measure(tmp_path, LINF, {("v", 0, name): _given(distances) for name in "ab"})
        assert [found["v", 0, name]["optimality"] for name in "ab"] == [None, None]


def test_examples_of_other_norms_count_but_do_not_lengthen_the_axis(tmp_path):
    """An L2 attack's smaller L-infinity distance lowers d*, and a larger one changes nothing."""
    attacks = [AttackDesign("a", "linf", None), AttackDesign("c", "l2", None)]

    def both(linf):
        return {"l0": 5.0, "l1": 5.0, "l2": 5.0, "linf": linf}

    rows = {("v", 0, "a"): _given([0.2, 0.4, INF]), ("v", 0, "c"): _given([both(0.1), both(0.9), both(7.0)])}
    found = _measure(tmp_path, attacks, rows)
    # Bound 0.4: A* = (0.1 + 0.4 + 0.4) / 3, A_a = (0.2 + 0.4 + 0.4) / 3, and 1.2 / 3 for an attack that finds nothing.
    assert found["v", 0, "a"]["optimality"] == pytest.approx(1 - 0.1 / 0.3)
    assert found["v", 0, "c"]["norm"] == "l2"


def test_bounded_attacks_are_measured_by_their_examples(tmp_path):
    """The example's distance counts, not the budget."""
    attacks = [AttackDesign("a", "linf", (0.5, 1.0)), AttackDesign("b", "linf", None)]

    def gridded(plan, *key):
        table = _cell(plan, *key, [0.3, 0.8, INF])
        epsilon = pa.array([0.5, 1.0, None], pa.float64())
        return table.set_column(table.schema.get_field_index("epsilon"), table.schema.field("epsilon"), epsilon)

    found = _measure(tmp_path, attacks, {("v", 0, "a"): gridded, ("v", 0, "b"): _given([0.3, 0.8, INF])})
    assert found["v", 0, "a"]["optimality"] == 1.0


def test_costs_are_sums_per_newly_broken_sample(tmp_path):
    """Queries of all samples are divided by the number of fooled ones; seconds come from the recipe."""
    uses = [0, 10, 7, 90], [0, 9, 6, 80]
    rows = {("v", 0, "a"): _given([WRONG, 0.1, 0.2, INF], uses), ("v", 0, "b"): _given([WRONG, INF, INF, INF], uses)}
    runs = {("v", 0, "a"): AttackRun(6.0, "foolbox", "3.3"), ("v", 0, "b"): AttackRun(5.0)}
    found = _measure(tmp_path, LINF, rows, runs)
    row = found["v", 0, "a"]
    assert (row["forwards"], row["backwards"], row["seconds"]) == (107, 95, 6.0)
    assert [row[f"{name}_per_broken"] for name in ("forwards", "backwards", "seconds")] == [53.5, 47.5, 3.0]
    assert (row["library"], row["version"]) == ("foolbox", "3.3")
    row = found["v", 0, "b"]
    assert (row["seconds"], row["library"]) == (5.0, None)
    assert [row[f"{name}_per_broken"] for name in ("forwards", "backwards", "seconds")] == [None] * 3


def test_a_missing_cell_has_a_row_of_its_own(tmp_path):
    """It has neither samples nor numbers, and other rows do not depend on it."""
    found = _measure(tmp_path, LINF, {("v", 0, "a"): _given([WRONG, 0.1, 0.3, INF])}, seeds=(0, 1))
    assert found["v", 0, "a"]["optimality"] == 1.0
    for key in (("v", 0, "b"), ("v", 1, "a"), ("v", 1, "b")):
        row = found[key]
        assert (row["samples"], row["broken"], row["success_rate"], row["optimality"]) == (0, 0, None, None)


def _by_hand(frame, row):
    """Compute one row with pandas and a fine sum along the steps."""
    model = frame[(frame.variant == row["variant"]) & (frame.seed == row["seed"])]
    clean = model.clean_prediction == model.label
    size = model[row["norm"]].astype(np.float64)
    model = model.assign(d=np.where(~clean, 0.0, np.where(model.status == "adversarial", size, INF)), clean=clean)
    mine = model[model.attack == row["attack"]]
    best = model.groupby("index").d.min()
    reached = model[model.norm == row["norm"]].groupby("index").d.min()
    bound = reached[np.isfinite(reached)].max()
    steps = np.unique(np.concatenate([[0.0, bound], model.d[model.d < bound]]))

    def area(distances):
        share = np.array([(distances > step).mean() for step in steps[:-1]])
        return (share * np.diff(steps)).sum()

    room = mine.clean.mean() * bound - area(best)
    broken = int((mine.status == "adversarial").sum())
    return {
        "samples": len(mine),
        "attacked": int(mine.clean.sum()),
        "broken": broken,
        "success_rate": broken / mine.clean.sum(),
        "forwards": mine.forwards.sum(),
        "backwards": mine.backwards.sum(),
        "forwards_per_broken": mine.forwards.sum() / broken,
        "backwards_per_broken": mine.backwards.sum() / broken,
        "optimality": 1 - (area(mine.d) - area(best)) / room,
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_number_equals_a_plain_computation(seed, tmp_path):
    """Each column equals pandas on random subsets of variants, seeds and attacks, errors included."""
    draw = np.random.default_rng(seed)
    attacks = [synthetic.ATTACKS[number] for number in sorted(draw.permutation(6)[:4])]
    variants = synthetic.VARIANTS[: draw.integers(1, 4)]
    plan = synthetic.plan(variants, tuple(range(draw.integers(1, 4))), attacks)
    errors = {attack.name: int(draw.integers(0, 5)) for attack in attacks}
    files = synthetic.write_evaluations(tmp_path, plan, samples=int(draw.integers(20, 90)), errors=errors)
    combine(files, tmp_path / "evaluations.parquet", design=plan)
    frame = pq.read_table(tmp_path / "evaluations.parquet").to_pandas()
    table = measure_attacks(tmp_path / "evaluations.parquet").to_pylist()
    assert [(row["variant"], row["seed"], row["attack"]) for row in table] == list(plan.cells())
    for row in table:
        expected = _by_hand(frame, row)
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_seconds_and_versions_do_not_decide_the_digest(tmp_path):
    """Tables that differ in times only have one digest."""
    plan = synthetic.plan(("softmax",), (0, 1))
    made = synthetic.write_experiment(tmp_path, plan, samples=40)
    digests = []
    for number in (1, 2):
        runs = {key: AttackRun(float(number), "gauntlet", str(number)) for key in plan.cells()}
        path = tmp_path / f"{number}.parquet"
        write_table(path, measure_attacks(made.evaluations, runs), {}, volatile=ATTACKS_VOLATILE)
        assert read_table(path)["seconds"].to_pylist() == [float(number)] * 12
        digests.append(pq.read_schema(path).metadata[b"gauntlet.digest"])
    assert digests[0] == digests[1]
