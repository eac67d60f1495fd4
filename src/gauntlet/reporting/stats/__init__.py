"""Statistics of tables and figures: intervals, tests and effects of seeds, as pure vectorized NumPy functions."""

from __future__ import annotations

from gauntlet.reporting.stats.clusters import effective_trials, shared_samples_interval
from gauntlet.reporting.stats.effects import Effect, factor_effects, factor_interactions, level_means
from gauntlet.reporting.stats.intervals import (
    CONFIDENCE,
    Interval,
    clopper_pearson_interval,
    prediction_interval,
    t_interval,
    wilson_interval,
)
from gauntlet.reporting.stats.multiplicity import holm
from gauntlet.reporting.stats.pairs import odds_ratio, paired_interval, sign_flip_test
from gauntlet.reporting.stats.seeds import SeedEffects, paired_t_test, seed_effects

__all__ = [
    "CONFIDENCE",
    "Effect",
    "Interval",
    "SeedEffects",
    "clopper_pearson_interval",
    "effective_trials",
    "factor_effects",
    "factor_interactions",
    "holm",
    "level_means",
    "odds_ratio",
    "paired_interval",
    "paired_t_test",
    "prediction_interval",
    "seed_effects",
    "shared_samples_interval",
    "sign_flip_test",
    "t_interval",
    "wilson_interval",
]
