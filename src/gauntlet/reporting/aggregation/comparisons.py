"""Comparisons of all pairs of variants: on the same samples (these models), and paired by seed (these trainings)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.design import ExperimentDesign
from gauntlet.reporting.aggregation.outcomes import Outcomes, read_certified_outcomes, read_outcomes
from gauntlet.reporting.aggregation.queries import open_evaluations
from gauntlet.reporting.stats import holm, odds_ratio, paired_interval, paired_t_test, sign_flip_test, t_interval

SIGNIFICANT = 0.05

COMPARISONS_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("measure", pa.string()),
        ("name", pa.string()),
        ("norm", pa.string()),
        ("epsilon", pa.float64()),
        ("variant", pa.string()),
        ("other", pa.string()),
        ("seeds", pa.int64()),
        ("attack_seeds", pa.int64()),
        ("samples", pa.int64()),
        ("accuracy", pa.float64()),
        ("other_accuracy", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("t_low", pa.float64()),
        ("t_high", pa.float64()),
        ("t_p", pa.float64()),
        ("t_p_holm", pa.float64()),
        ("t_significant", pa.bool_()),
        ("only_variant", pa.int64()),
        ("only_other", pa.int64()),
        ("odds_ratio", pa.float64()),
        ("p", pa.float64()),
        ("p_holm", pa.float64()),
        ("significant", pa.bool_()),
        ("missing", pa.int64()),
    ]
)
"""One row per measure, budget and pair of variants, `variant` before `other` in the order of the configuration.

`measure` is clean, robust or certified; `name` the attack, "worst:NORM", "seeds:ATTACK" (an attack and its repetitions
with other seeds) or the certificate, empty for clean; `epsilon` the budget or radius. The comparison is on the same
`samples` and the `seeds` training seeds (and `attack_seeds` attack seeds each) that both variants have. `difference` is
`accuracy` less `other_accuracy`.

On the same samples, for these trained models: `low` and `high` bound the difference over samples. `only_variant` and
`only_other` count the (seed, sample) that one of the two alone has right, `odds_ratio` is their quotient (null where
neither has any). `p` is the p-value of McNemar's exact test, with several seeds of its form with the sample as unit
(`stats.sign_flip_test`).

Paired by seed, for other trainings: `t_low` and `t_high` bound the mean difference over training seeds, and `t_p` is
the p-value of the paired t-test (`stats.paired_t_test`); null with fewer than two seeds and where the
differences of all seeds are equal.

Intervals are at 95 %. `p_holm` and `t_p_holm` are adjusted for all pairs of the same measure, name and budget;
`significant` and `t_significant` mean that they are below 0.05. `missing` counts the missing cells of both variants.
"""

_ONE_HOT_VALUES = 1 << 24
"""Maximum number of float32 values of a one-hot matrix in memory."""


def compare_variants(
    evaluations: Path, certificates: Path | None = None, *, certified: pa.Table | None = None
) -> pa.Table:
    """Compare all pairs of variants wherever accuracy is stated: rows of COMPARISONS_SCHEMA.

    `evaluations` and `certificates` are combined files; certificates are compared at the radii of `certified`, the
    certified accuracies.

    Raises InputError when a file is missing, damaged or of another kind.
    """
    tables = [COMPARISONS_SCHEMA.empty_table()]
    with open_evaluations(evaluations) as opened:
        design = opened.design
        if len(design.variants) > 1:
            tables += [_compare_pairs(outcomes, design) for outcomes in read_outcomes(opened)]
    if certificates is not None and certified is not None and len(design.variants) > 1:
        radii: dict[str, list[float]] = {}
        for row in certified.to_pylist():
            radii.setdefault(row["norm"], []).append(row["radius"])
        grids = {norm: sorted(set(values)) for norm, values in radii.items()}
        certified_outcomes = read_certified_outcomes(certificates, design, grids)
        tables += [_compare_pairs(outcomes, design) for outcomes in certified_outcomes]
    return pa.concat_tables(tables).combine_chunks()


def _compare_pairs(outcomes: Outcomes, design: ExperimentDesign) -> pa.Table:
    """Compare all pairs of variants under one measure, with p-values adjusted for their number."""
    first, second, shared = _pairs(outcomes)
    flat_shared = shared.reshape(len(shared), -1)
    parts: dict[str, list[NDArray]] = {}
    for replicates in np.unique(flat_shared, axis=0):
        if not replicates.any() or not outcomes.right.shape[-1]:
            continue
        pairs = (flat_shared == replicates).all(1)
        measured = _measure(outcomes, replicates.reshape(shared.shape[1:]), first[pairs], second[pairs])
        for name, array in measured.items():
            parts.setdefault(name, []).append(array)
    if not parts:
        return COMPARISONS_SCHEMA.empty_table()
    columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    order = np.lexsort((columns["other"], columns["variant"]))
    columns = {name: array[order] for name, array in columns.items()}
    adjusted, t_adjusted = holm(columns["p"]), holm(columns["t_p"])
    names = np.asarray(design.variants, dtype=object)
    ids = {
        "experiment": design.experiment,
        "measure": outcomes.measure,
        "name": outcomes.name,
        "norm": outcomes.norm,
        "epsilon": outcomes.epsilon,
    }
    values: dict[str, Any] = {
        **columns,
        **{name: [value] * len(order) for name, value in ids.items()},
        "missing": outcomes.missing[columns["variant"]] + outcomes.missing[columns["other"]],
        "variant": names[columns["variant"]],
        "other": names[columns["other"]],
        "p_holm": adjusted,
        "significant": adjusted < SIGNIFICANT,
        "t_p_holm": t_adjusted,
        "t_significant": t_adjusted < SIGNIFICANT,
    }
    arrays = [pa.array(values[field.name], field.type, from_pandas=True) for field in COMPARISONS_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=COMPARISONS_SCHEMA)


def _pairs(outcomes: Outcomes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first and second variant of each pair, and the replicates that both have.

    A training seed that lacks an attack seed is left out, as in the table: a mean over all replicates would give it
    less weight than the others.
    """
    pairs = np.asarray(list(itertools.combinations(range(len(outcomes.present)), 2)), np.int64).reshape(-1, 2)
    first, second = pairs.T
    shared = outcomes.present[first] & outcomes.present[second]
    return first, second, shared & shared.all(-1, keepdims=True)


def _measure(
    outcomes: Outcomes, shared: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[str, NDArray]:
    """Compare pairs over the replicates that they share, bool (training seeds, attack seeds)."""
    variants = np.unique(np.concatenate([first, second]))
    right = outcomes.right[variants][:, shared]
    one, two = np.searchsorted(variants, first), np.searchsorted(variants, second)
    joint, alone = _count(right, one, two)
    replicates, samples = right.shape[1:]
    differences = np.stack([np.trace(joint, -d, -2, -1) for d in range(-replicates, replicates + 1)], -1)
    seeds = np.flatnonzero(shared.any(1))
    seed_means = np.stack([outcomes.right[variants][:, seed][:, shared[seed]].mean((1, 2)) for seed in seeds], -1)
    accuracy = right.mean((1, 2))
    low, high = paired_interval(joint)
    t_low, t_high = t_interval(seed_means[one] - seed_means[two])
    count = np.ones(len(first), np.int64)
    return {
        "variant": first,
        "other": second,
        "seeds": count * len(seeds),
        "attack_seeds": count * int(shared.sum(1).max()),
        "samples": count * samples,
        "accuracy": accuracy[one],
        "other_accuracy": accuracy[two],
        "difference": accuracy[one] - accuracy[two],
        "low": low,
        "high": high,
        "t_low": t_low,
        "t_high": t_high,
        "t_p": paired_t_test(seed_means[one] - seed_means[two]),
        "only_variant": alone[0],
        "only_other": alone[1],
        "odds_ratio": odds_ratio(*alone),
        "p": sign_flip_test(differences),
    }


def _count(
    right: NDArray[np.bool_], one: NDArray[np.int64], two: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Count samples by the replicates that each of a pair has right, and the outcomes that one alone has right.

    `right` is (variants, R, samples); the counts are (pairs, R + 1, R + 1) and twice (pairs,). All pairs are counted at
    once by matrix products over blocks of samples.
    """
    variants, replicates, _ = right.shape
    levels = replicates + 1
    table = np.zeros((variants * levels, variants * levels))
    both = np.zeros((variants, variants))
    for block in _blocks(right, variants * levels):
        one_hot = (block.sum(1)[:, None] == np.arange(levels)[:, None]).reshape(variants * levels, -1)
        one_hot = one_hot.astype(np.float32)
        table += one_hot @ one_hot.T
        flat = block.reshape(variants, -1).astype(np.float32)
        both += flat @ flat.T
    joint = table.reshape(variants, levels, variants, levels).transpose(0, 2, 1, 3)[one, two]
    alone = np.diag(both)[one] - both[one, two], np.diag(both)[two] - both[one, two]
    only_first, only_second = (np.rint(values).astype(np.int64) for values in alone)
    return np.rint(joint).astype(np.int64), (only_first, only_second)


def _blocks(right: NDArray[np.bool_], rows: int) -> Iterator[NDArray[np.bool_]]:
    size = max(1, _ONE_HOT_VALUES // rows)
    for start in range(0, right.shape[-1], size):
        yield right[..., start : start + size]
