"""Effects of factors against statsmodels, by simulation, and on grids that are not whole."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from statsmodels.formula.api import mixedlm, ols
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from gauntlet.reporting.stats import factor_effects, factor_interactions, level_means

LEVELS = 3, 4, 2
SEEDS = 5


def grid(*levels: int) -> np.ndarray:
    """Return the codes of a whole grid."""
    return np.array(list(itertools.product(*map(range, levels))))


def outcomes(
    seeds: int = SEEDS, *, key: int = 0, simulations: int | None = None, null: int | None = None
) -> np.ndarray:
    """Return outcomes of the grid of LEVELS: main effects, an interaction, a seed's own effects, unequal variances."""
    draw, codes = np.random.default_rng([16, key]), grid(*LEVELS)
    shape = (len(codes), *([] if simulations is None else [simulations]), seeds)

    def spread(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, *[1] * (len(shape) - 1))

    mean = 0.03 * codes[:, 0] + np.array([0.0, 0.1, 0.04, -0.2])[codes[:, 1]] + 0.07 * codes[:, 2]
    mean += 0.05 * (codes[:, 0] == 2) * codes[:, 1] * (null not in (0, 1))
    if null is not None:
        mean -= 0.03 * codes[:, 0] * (null == 0)
    of_seed = 0.3 * draw.standard_normal(shape[1:])
    of_slope = 0.05 * spread(codes[:, 1] - 1.5) * draw.standard_normal(shape[1:]) * (null != 0)
    noise = spread(np.where(codes[:, 0] == 1, 0.2, 0.05)) * draw.standard_normal(shape)
    return spread(mean) + of_seed + of_slope + noise


def frame(values: np.ndarray) -> pd.DataFrame:
    """Return the outcomes as one row per cell and seed."""
    codes = np.repeat(grid(*LEVELS), values.shape[1], axis=0)
    seeds = np.tile(np.arange(values.shape[1]), len(values))
    return pd.DataFrame({"a": codes[:, 0], "b": codes[:, 1], "c": codes[:, 2], "seed": seeds, "y": values.reshape(-1)})


def by_seed(rows: pd.DataFrame, formula: str) -> pd.DataFrame:
    """Return the coefficients of least squares, fitted to each seed alone."""
    return pd.DataFrame([ols(formula, rows[rows.seed == seed]).fit().params for seed in range(SEEDS)])


def test_differences_are_those_of_least_squares_paired_by_seed():
    """Estimates, intervals and p-values of differences from the first level equal statsmodels', and so do Holm's."""
    values = outcomes()
    coefficients = by_seed(frame(values), "y ~ C(a) + C(b) + C(c)")
    effects = factor_effects(grid(*LEVELS), values, 1)
    assert [(*effect.levels, *effect.references) for effect in effects] == [
        (1, 0),
        (2, 0),
        (3, 0),
        (2, 1),
        (3, 1),
        (3, 2),
    ]
    for effect in effects[:3]:
        expected = DescrStatsW(coefficients[f"C(b)[T.{effect.levels[0]}]"])
        assert (effect.estimate, effect.low, effect.high) == pytest.approx((expected.mean, *expected.tconfint_mean()))
        assert effect.p == pytest.approx(expected.ttest_mean()[1])
        assert (effect.seeds, effect.matched, effect.left_out, effect.unmatched) == (SEEDS, 6, 0, 0)
    adjusted = multipletests([effect.p for effect in effects], method="holm")[1]
    np.testing.assert_allclose([effect.p_holm for effect in effects], adjusted)


def test_differences_are_those_of_repeated_measures_and_of_a_mixed_model():
    """The p-value is that of an ANOVA with repeated measures per seed; estimate and interval those of a mixed model."""
    values = 100 * outcomes(12)
    rows = frame(values)
    effect = factor_effects(grid(*LEVELS), values, 1)[2]
    pair = rows[rows.b.isin([0, 3])]
    table = AnovaRM(pair, "y", "seed", within=["a", "b", "c"]).fit().anova_table
    assert effect.p == pytest.approx(table.loc["b", "Pr > F"])
    model = mixedlm("y ~ C(b) * C(a, Sum) * C(c, Sum)", pair, groups="seed", re_formula="~C(b)").fit(reml=True)
    assert effect.estimate == pytest.approx(model.params["C(b)[T.3]"], rel=1e-6)
    half = student.ppf(0.975, 11) * model.bse["C(b)[T.3]"]
    assert (effect.high - effect.low) / 2 == pytest.approx(half, rel=1e-3)


def test_interactions_are_those_of_least_squares_and_repeated_measures():
    """Every contrast equals the coefficient of the product by seed; that of two levels the ANOVA's interaction."""
    values = outcomes()
    rows = frame(values)
    coefficients = by_seed(rows, "y ~ C(a) * C(b) + C(c)")
    found = factor_interactions(grid(*LEVELS), values, 0, 1)
    assert [effect.levels for effect in found] == list(itertools.product([1, 2], [1, 2, 3]))
    for effect in found:
        expected = DescrStatsW(coefficients[f"C(a)[T.{effect.levels[0]}]:C(b)[T.{effect.levels[1]}]"])
        assert effect.references == (0, 0)
        assert (effect.estimate, effect.low, effect.high) == pytest.approx((expected.mean, *expected.tconfint_mean()))
    square = rows[rows.a.isin([0, 2]) & rows.b.isin([0, 3])]
    table = AnovaRM(square, "y", "seed", within=["a", "b", "c"]).fit().anova_table
    assert found[-1].p == pytest.approx(table.loc["a:b", "Pr > F"])
    adjusted = multipletests([effect.p for effect in found], method="holm")[1]
    np.testing.assert_allclose([effect.p_holm for effect in found], adjusted)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_true_difference(seeds):
    """With seed effects, seeds of different slopes and unequal variances, at least 94 % of intervals do."""
    values = outcomes(seeds, key=1, simulations=5000)
    effect = factor_effects(grid(*LEVELS), values, 1)[2]
    # Of the interaction only the level 2 of the first factor has a part: a third of 3 * 0.05.
    assert np.mean((effect.low <= -0.15) & (effect.high >= -0.15)) >= 0.94
    interaction = factor_interactions(grid(*LEVELS), values, 0, 1)[-1]
    assert np.mean((interaction.low <= 0.15) & (interaction.high >= 0.15)) >= 0.94


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_factor_without_effect_is_rarely_significant(seeds):
    """After Holm's adjustment at most 6 % of 1000 simulations find any difference, or any interaction."""
    values = outcomes(seeds, key=2, simulations=1000, null=0)
    for found in (factor_effects(grid(*LEVELS), values, 0), factor_interactions(grid(*LEVELS), values, 0, 1)):
        assert np.mean(np.stack([effect.p_holm for effect in found]).min(0) < 0.05) <= 0.06


def test_one_seed_and_equal_seeds_have_neither_interval_nor_test():
    """Ties are no evidence: copies of one training, or no difference at all, are never significant."""
    values = outcomes()
    for few, seeds in ((values[:, :1], 1), (np.repeat(values[:, :1], 3, axis=1), 3), (np.full((24, 3), 0.9), 3)):
        for effect in [*factor_effects(grid(*LEVELS), few, 0), *factor_interactions(grid(*LEVELS), few, 0, 1)]:
            assert np.isfinite(effect.estimate)
            assert effect.seeds == seeds
            assert np.isnan([effect.low, effect.high, effect.p, effect.p_holm]).all()


def test_settings_without_a_cell_are_left_out_and_named():
    """A cell missing in one seed takes its setting out of both levels, in all seeds, and out of no other pair."""
    codes, values = grid(2, 3), np.random.default_rng(3).random((6, 4))
    values[4, 2] = np.nan  # level 1 of the first factor, setting 1
    (effect,) = factor_effects(codes, values, 0)
    differences = values[3:] - values[:3]
    assert effect.estimate == pytest.approx(differences[[0, 2]].mean())
    assert (effect.seeds, effect.matched, effect.left_out, effect.missing) == (4, 2, 1, ((4, 2),))
    assert [effect.left_out for effect in factor_effects(codes, values, 1)] == [1, 0, 1]


def test_a_seed_that_few_settings_have_does_not_count():
    """A seed whose cells are mostly still to come takes no setting out; settings that lack other seeds are left out."""
    codes, values = grid(2, 4), np.random.default_rng(4).random((8, 4))
    values[1:4, 3] = np.nan
    values[5, 0] = np.nan
    (effect,) = factor_effects(codes, values, 0)
    assert (effect.seeds, effect.matched, effect.left_out) == (3, 3, 1)
    assert effect.missing == ((1, 3), (2, 3), (3, 3), (5, 0))
    assert effect.estimate == pytest.approx((values[4:] - values[:4])[[0, 2, 3]][:, :3].mean())
    (nothing,) = factor_effects(codes, np.full((8, 2), np.nan), 0)
    assert (nothing.seeds, nothing.matched, nothing.left_out) == (0, 0, 4)
    assert np.isnan(nothing.estimate)


def test_settings_that_the_grid_excludes_are_unmatched():
    """Without the cell (0, 0) the levels are compared where both exist; the means are over these settings too."""
    codes, values = grid(2, 3)[1:], np.random.default_rng(5).random((5, 3))
    (effect,) = factor_effects(codes, values, 0)
    assert effect.estimate == pytest.approx((values[3:] - values[:2]).mean())
    assert (effect.matched, effect.left_out, effect.unmatched, effect.missing) == (2, 0, 1, ())
    low, high = level_means(codes, values, (0,))
    assert high.estimate - low.estimate == pytest.approx(effect.estimate)
    assert len(level_means(codes, values, (0, 1))) == 5


def test_interactions_refer_to_levels_that_exist():
    """In a grid without the cell of both first levels, other levels are the reference of all interactions."""
    codes, values = grid(2, 3)[1:], np.random.default_rng(6).random((5, 3))
    (found,) = factor_interactions(codes, values, 0, 1)
    assert (found.references, found.levels) == ((0, 1), (1, 2))
    assert found.estimate == pytest.approx((values[4] - values[3] - values[1] + values[0]).mean())


def test_nested_factors_compare_where_they_exist():
    """A slope that only level 1 has is compared within it, and is no setting of the comparison of 0 and 1."""
    codes = np.array([[0, -1, 0], [0, -1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    values = np.random.default_rng(7).random((6, 3))
    (activation,) = factor_effects(codes, values, 0)
    assert activation.estimate == pytest.approx(values[2:].mean() - values[:2].mean())
    assert (activation.matched, activation.unmatched) == (2, 0)
    (slope,) = factor_effects(codes, values, 1)
    assert slope.estimate == pytest.approx(values[4:].mean() - values[2:4].mean())
    assert factor_interactions(codes, values, 0, 1) == []
    assert [effect.levels for effect in factor_interactions(codes, values, 1, 2)] == [(1, 1)]
    assert [effect.levels for effect in level_means(codes, values, (0, 1))] == [(1, 0), (1, 1)]


def test_a_single_factor_has_one_setting():
    """Without other factors each pair of levels is compared once per seed."""
    values = np.random.default_rng(8).random((3, 4))
    effects = factor_effects(grid(3), values, 0)
    assert [effect.matched for effect in effects] == [1, 1, 1]
    assert effects[1].estimate == pytest.approx((values[2] - values[0]).mean())
    assert [float(mean.estimate) for mean in level_means(grid(3), values, (0,))] == pytest.approx(values.mean(1))
