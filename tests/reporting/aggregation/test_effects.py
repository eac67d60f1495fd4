"""Effects of factors: every kind of row against the summary and counts by hand, and what missing cells do."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from matplotlib.text import Text

from gauntlet.core.parquet import read_table, write_table
from gauntlet.reporting.aggregation import (
    EFFECTS_SCHEMA,
    FactorDesign,
    GridDesign,
    LevelDesign,
    certified_accuracies,
    combine,
    headline_budgets,
    measure_effects,
    norm_grids,
    open_evaluations,
    summarize,
    variants_table,
)
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.tables.effect_cells import effect_tables
from tests.support import synthetic
from tests.support.cells import make_cell
from tests.support.grids import grid_plan, write_results

ATTACKS = synthetic.ATTACKS[1:3] + synthetic.ATTACKS[4:5]
PLAN = grid_plan((3, 2), attacks=ATTACKS, alone=("plain",))
ABSENT = [make_cell("evaluate", "digits", "a0_b1", 1, "spsa")]


def measured(evaluations, summary=None):
    """Return the effects of an experiment as rows."""
    certificates = evaluations.with_name("certificates.parquet")
    with open_evaluations(evaluations) as opened:
        radii = headline_budgets(opened.design, norm_grids(opened))
    summary = read_table(evaluations.with_name("summary.parquet")) if summary is None else summary
    table = measure_effects(evaluations, summary, certificates, certified_accuracies(certificates, radii=radii))
    assert table.schema == EFFECTS_SCHEMA
    return table.to_pylist()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A grid of 3 x 2 variants, of which one lacks one attack of one seed, and a variant of no grid."""
    return write_results(tmp_path_factory.mktemp("made"), PLAN, absent=ABSENT)


@pytest.fixture(scope="module")
def rows(experiment):
    """The experiment's effects."""
    return measured(experiment)


@cache
def read_rows(path):
    """Read a combined file once."""
    return pq.read_table(path).to_pylist()


def accuracies(experiment, row):
    """Return the accuracy behind a row by (variant, seed), in plain Python."""
    right = {}
    name = "certificates.parquet" if row["measure"] == "certified" else "evaluations.parquet"
    for one in read_rows(experiment.with_name(name)):
        if row["measure"] == "certified":
            if one["certificate"] != row["name"]:
                continue
            holds = one["status"] == "certified" and one["radius"] >= row["epsilon"]
        elif row["measure"] == "clean":
            holds = one["label"] == one["clean_prediction"]
        elif one["norm"] == row["norm"]:
            holds = one["epsilon"] is None or one["epsilon"] > row["epsilon"]
        else:
            continue
        samples = right.setdefault((one["variant"], one["seed"]), {})
        samples[one["index"]] = samples.get(one["index"], True) and holds
    return {key: np.mean(list(samples.values())) for key, samples in right.items()}


def test_headline_accuracies_have_effects(rows):
    """Clean accuracy, each norm's worst case and the certificate, at the budgets of the tables; one grid."""
    stated = dict.fromkeys((row["measure"], row["name"], row["epsilon"]) for row in rows)
    assert list(stated)[:3] == [
        ("clean", "", 0.0),
        ("robust", "worst:linf", 0.1),
        ("robust", "worst:l2", stated_l2(rows)),
    ]
    assert ("certified", "smooth") in {name[:2] for name in stated}
    assert {row["grid"] for row in rows} == {"{first}_{second}"}


@pytest.mark.parametrize("certified", [("plain",), ("plain", "a0_b0"), ("plain", "a0_b0", "a0_b1")])
def test_variants_without_a_certificate_are_no_missing_cells(tmp_path, certified):
    """A certificate of at most one variant of the grid has no effects; others are compared among their variants."""
    evaluations = write_results(tmp_path, PLAN)
    smooth = replace(PLAN.certificates[-1], variants=certified)
    path, metadata = tmp_path / "certificates.parquet", replace(PLAN, certificates=(smooth,)).metadata()
    for file in (evaluations, path):
        table = pq.read_table(file)
        if file == path:
            table = table.filter(pc.is_in(table["variant"], pa.array(certified)))
        pq.write_table(table.replace_schema_metadata(metadata), file)
    found, grid = measured(evaluations), len(certified) > 2
    assert {row["missing"] for row in found} == {0}
    certificate = [row for row in found if row["measure"] == "certified"]
    assert {row["factor"] for row in certificate if row["kind"] == "difference"} == ({"second"} if grid else set())
    assert bool(certificate) == grid
    assert all(row["estimate"] is not None for row in certificate)


def test_seeds_that_a_variant_does_not_have_are_no_missing_cells(tmp_path):
    """Adopted checkpoints have seeds of their own: a grid of these is complete, whatever other variants have."""
    plan = grid_plan((2, 2), attacks=ATTACKS[:1], alone=("plain",))
    in_grid = [name for name in plan.variants if name != "plain"]
    for number, own in enumerate([dict.fromkeys(in_grid, (0,)), {"a0_b0": (0, 1)}]):
        design = replace(plan, own_seeds=own, certificates=())
        evaluations = tmp_path / f"{number}.parquet"
        combine(synthetic.write_evaluations(tmp_path / str(number), design), evaluations, design=design)
        table = measure_effects(evaluations, summarize(evaluations), None, CERTIFIED_SCHEMA.empty_table())
        rows = table.to_pylist()
        assert {(row["missing"], row["incomplete"]) for row in rows} == {(0, "")}
        assert {row["seeds"] for row in rows if row["kind"] == "difference"} == {1 if number == 0 else 3}
        (shown,) = effect_tables(rows, design)
        assert not any(name and name.marks for line in shown.differences for name in line.numbers)
        left_out = "Settings in which a variant has fewer seeds than others are left out."
        assert (left_out in shown.notes) == any(row["left_out"] for row in rows)


def test_a_seed_that_is_left_out_without_a_missing_cell_is_stated(tmp_path):
    """Next to numbers of other means: the first level's is over the seeds that both levels have."""
    plan = grid_plan((2,), attacks=ATTACKS[:1])
    for own in ({}, {"a1": (0, 1)}):
        design, folder = replace(plan, own_seeds=own, certificates=()), tmp_path / str(len(own))
        evaluations = folder / "evaluations.parquet"
        combine(synthetic.write_evaluations(folder, design), evaluations, design=design)
        effects = measure_effects(evaluations, summarize(evaluations), None, CERTIFIED_SCHEMA.empty_table())
        assert {row["seeds"] for row in effects.to_pylist()} == {3 - len(own)}
        (shown,) = effect_tables(effects.to_pylist(), design)
        assert any("is left out: means differ" in note for note in shown.notes) == bool(own)
        write_table(folder / "effects.parquet", effects, {})
        inputs = FigureInputs(design.variants, evaluations, effects=folder / "effects.parquet")
        texts = [text.get_text() for text in draw("factor_effects", inputs).findobj(Text)]
        assert any("seeds or settings that a variant lacks" in text for text in texts) == bool(own)


def stated_l2(rows):
    """Return the budget in L2, which follows from measured distances."""
    return next(row["epsilon"] for row in rows if row["norm"] == "l2" and row["measure"] == "robust")


def test_every_difference_equals_a_count_by_hand(experiment, rows):
    """Over the settings that have every cell: all seeds, the mean over settings first."""
    for row in (row for row in rows if row["kind"] == "difference" and row["factor"] == "first"):
        of = accuracies(experiment, row)
        settings = ["b0"] if row["norm"] == "linf" and "a0" in (row["level"], row["reference"]) else ["b0", "b1"]
        differences = [
            np.mean([of[f"{row['level']}_{b}", seed] - of[f"{row['reference']}_{b}", seed] for b in settings])
            for seed in PLAN.seeds
        ]
        assert row["estimate"] == pytest.approx(np.mean(differences))
        assert (row["seeds"], row["matched"], row["left_out"]) == (3, len(settings), 2 - len(settings))
        assert row["incomplete"] == ("" if len(settings) == 2 else "a0_b1")
        assert row["missing"] == 2 - len(settings)


def test_interactions_and_means_agree_with_differences(rows):
    """In two factors an interaction is a difference of differences; means differ as their levels do."""
    clean = [row for row in rows if row["measure"] == "clean"]
    means = {(row["level"], row["other_level"]): row["estimate"] for row in clean if row["kind"] == "mean"}
    assert len(means) == 3 + 2 + 6
    found = [row for row in clean if row["kind"] == "interaction"]
    assert [(row["level"], row["other_level"]) for row in found] == [("a1", "b1"), ("a2", "b1")]
    for row in found:
        corners = itertools.product((row["level"], row["reference"]), (row["other_level"], row["other_reference"]))
        values = [means[corner] for corner in corners]
        assert row["estimate"] == pytest.approx(values[0] - values[1] - values[2] + values[3])
    for row in (row for row in clean if row["kind"] == "difference"):
        assert row["estimate"] == pytest.approx(means[row["level"], None] - means[row["reference"], None])


def test_tests_are_adjusted_within_one_accuracy_and_factor(rows):
    """Holm's adjustment is over the three pairs of levels; significance follows the adjusted value."""
    for row in (row for row in rows if row["kind"] != "mean"):
        assert row["t_p"] <= row["t_p_holm"] <= min(1, 3 * row["t_p"] + 1e-12)
        assert row["t_significant"] == (row["t_p_holm"] < 0.05)
        assert row["t_low"] < row["estimate"] < row["t_high"]


def test_doubts_about_a_variant_reach_its_effects(experiment):
    """A failed check and samples with errors mark the rows that rest on the variant, and no other."""
    table = read_table(experiment.with_name("summary.parquet"))
    summary = table.to_pylist()
    for row in summary:
        row["flags"] = "gradient_checks" if (row["variant"], row["norm"]) == ("a2_b0", "linf") else ""
        row["errors"] = 3 if row["variant"] == "a2_b0" else 0
    table = pa.Table.from_pylist(summary, schema=table.schema)
    for row in (row for row in measured(experiment, table) if row["kind"] == "difference" and row["factor"] == "first"):
        doubtful = "a2" in (row["level"], row["reference"])
        assert row["flags"] == ("gradient_checks" if doubtful and row["norm"] == "linf" else "")
        assert row["errors"] == (3 if doubtful and row["measure"] == "robust" else 0)


def test_without_grids_there_are_no_effects(tmp_path):
    """Nothing is estimated, and the table of variants has a row for each variant, without a factor."""
    plan = synthetic.plan(attacks=ATTACKS[:1], seeds=(0,))
    plan = replace(plan, certificates=plan.certificates[-1:])
    assert measured(write_results(tmp_path, plan, samples=20)) == []
    listed = variants_table(plan).to_pylist()
    assert [(row["variant"], row["factor"], row["level"]) for row in listed] == [
        (variant, None, None) for variant in synthetic.VARIANTS
    ]


def test_factors_of_two_grids_are_never_mixed(tmp_path):
    """Two grids with factors of one name have effects of their own."""
    level = [LevelDesign(name, name, f'"{name}"') for name in ("low", "high")]
    grids = tuple(
        GridDesign(f"{name}_{{lr}}", (FactorDesign("lr", tuple(level)),), {f"{name}_low": (0,), f"{name}_high": (1,)})
        for name in ("one", "two")
    )
    variants = [variant for grid in grids for variant in grid.variants]
    plan = replace(synthetic.plan(variants, attacks=ATTACKS[:1]), grids=grids)
    evaluations = write_results(tmp_path, plan)
    found = [row for row in measured(evaluations) if row["measure"] == "clean"]
    assert [(row["grid"], row["kind"]) for row in found] == [
        (grid.name, kind) for grid in grids for kind in ("mean", "mean", "difference")
    ]
    of = accuracies(evaluations, found[2])
    for row in found[2::3]:
        name = row["grid"].removesuffix("_{lr}")
        assert row["estimate"] == pytest.approx(
            np.mean([of[f"{name}_high", s] - of[f"{name}_low", s] for s in range(3)])
        )


def test_variants_are_listed_with_their_factors():
    """One row per factor, with printed names, values and positions; a variant of no grid has one row."""
    listed = variants_table(replace(PLAN, titles={"a1_b0": "A1"})).to_pylist()
    assert [row["factor"] for row in listed if row["variant"] == "plain"] == [None]
    assert [row for row in listed if row["variant"] == "a1_b0"] == [
        {
            "experiment": "digits",
            "variant": "a1_b0",
            "variant_title": "A1",
            "grid": "{first}_{second}",
            "factor": factor,
            "level": level,
            "title": level.upper(),
            "value": f'"{level}"',
            "factor_position": position,
            "level_position": number,
        }
        for position, (factor, level, number) in enumerate([("first", "a1", 1), ("second", "b0", 0)])
    ]
