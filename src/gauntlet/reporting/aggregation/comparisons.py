"""Variants against each other on the same samples: differences with intervals, and whether they may be chance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.design import ExperimentDesign
from gauntlet.reporting.aggregation.outcomes import Outcomes, read_certified_outcomes, read_outcomes
from gauntlet.reporting.aggregation.queries import open_evaluations
from gauntlet.reporting.stats import holm, odds_ratio, paired_interval, sign_flip_test, t_interval

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
with other seeds) or the certificate, empty for clean; `epsilon` the budget or radius. Compared are the same `samples`
under the `seeds` training seeds (and, of these, `attack_seeds` attack seeds) that both variants have. `difference` is
`accuracy` less `other_accuracy`; `low` and `high` bound it over samples, for these trained models; `t_low` and `t_high`
over training seeds, paired (null with fewer than two); all at 95 %. `only_variant` and `only_other` count the (seed,
sample) that one of the two alone has right, `odds_ratio` is their quotient (null where neither has any). `p` is
McNemar's exact test, with several seeds its form in which the sample is the unit (`stats.sign_flip_test`);
`p_holm` is adjusted for all pairs of the same measure, name and budget, and `significant` says that it is below 0.05.
`missing` counts the planned cells of either variant that are not there.
"""

_ONE_HOT = 1 << 24
"""Numbers of 4 bytes that counting may hold at a time."""


def compare_variants(
    evaluations: Path, certificates: Path | None = None, *, certified: pa.Table | None = None
) -> pa.Table:
    """Compare all pairs of variants wherever accuracy is stated: rows of COMPARISONS_SCHEMA.

    `evaluations` and `certificates` are combined files; certificates are compared at the radii of `certified`, the
    certified accuracies.

    Raises InputError when a file is missing, damaged or another.
    """
    tables = [COMPARISONS_SCHEMA.empty_table()]
    with open_evaluations(evaluations) as opened:
        design = opened.design
        if len(design.variants) > 1:
            tables += [compared(one, design) for one in read_outcomes(opened)]
    if certificates is not None and certified is not None and len(design.variants) > 1:
        radii: dict[str, list[float]] = {}
        for row in certified.to_pylist():
            radii.setdefault(row["norm"], []).append(row["radius"])
        grids = {norm: sorted(set(values)) for norm, values in radii.items()}
        tables += [compared(one, design) for one in read_certified_outcomes(certificates, design, grids)]
    return pa.concat_tables(tables).combine_chunks()


def compared(of: Outcomes, design: ExperimentDesign) -> pa.Table:
    """Compare all pairs of variants under one measure, corrected for their number."""
    first, second, both = _pairs_of(of)
    columns: dict[str, list[NDArray]] = {}
    for replicates in np.unique(both.reshape(len(both), -1), axis=0):
        if not replicates.any() or not of.right.shape[-1]:
            continue
        here = (both.reshape(len(both), -1) == replicates).all(1)
        shared = replicates.reshape(both.shape[1:])
        for name, values in _measured(of, shared, first[here], second[here]).items():
            columns.setdefault(name, []).append(values)
    if not columns:
        return COMPARISONS_SCHEMA.empty_table()
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((found["other"], found["variant"]))
    found = {name: values[order] for name, values in found.items()}
    adjusted = holm(found["p"])
    names = np.asarray(design.variants, dtype=object)
    told = {"experiment": design.experiment, "measure": of.measure, "name": of.name, "norm": of.norm}
    every = {
        **{name: [value] * len(order) for name, value in {**told, "epsilon": of.epsilon}.items()},
        **found,
        "variant": names[found["variant"]],
        "other": names[found["other"]],
        "p_holm": adjusted,
        "significant": adjusted < SIGNIFICANT,
        "missing": of.missing[found["variant"]] + of.missing[found["other"]],
    }
    arrays = [pa.array(every[field.name], field.type, from_pandas=True) for field in COMPARISONS_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=COMPARISONS_SCHEMA)


def _pairs_of(of: Outcomes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """List the pairs of variants, and the replicates that both have."""
    pairs = np.asarray(list(itertools.combinations(range(len(of.present)), 2)), np.int64).reshape(-1, 2)
    first, second = pairs.T
    return first, second, of.present[first] & of.present[second]


def _measured(
    of: Outcomes, shared: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[str, NDArray]:
    """Compare pairs over the replicates that they share, bool (training seeds, attack seeds)."""
    members = np.unique(np.concatenate([first, second]))
    right = of.right[members][:, shared]
    one, two = np.searchsorted(members, first), np.searchsorted(members, second)
    joint, alone = _counted(right, one, two)
    reach, samples = right.shape[1:]
    difference = np.stack([np.trace(joint, -d, -2, -1) for d in range(-reach, reach + 1)], -1)
    trained = np.flatnonzero(shared.any(1))
    of_seed = np.stack([of.right[members][:, seed][:, shared[seed]].mean((1, 2)) for seed in trained], -1)
    accuracy = right.mean((1, 2))
    low, high = paired_interval(joint)
    t_low, t_high = t_interval(of_seed[one] - of_seed[two])
    count = np.ones(len(first), np.int64)
    return {
        "variant": first,
        "other": second,
        "seeds": count * len(trained),
        "attack_seeds": count * int(shared.sum(1).max()),
        "samples": count * samples,
        "accuracy": accuracy[one],
        "other_accuracy": accuracy[two],
        "difference": accuracy[one] - accuracy[two],
        "low": low,
        "high": high,
        "t_low": t_low,
        "t_high": t_high,
        "only_variant": alone[0],
        "only_other": alone[1],
        "odds_ratio": odds_ratio(*alone),
        "p": sign_flip_test(difference),
    }


def _counted(
    right: NDArray[np.bool_], one: NDArray[np.int64], two: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Count samples by how many replicates either has right, (pairs, R + 1, R + 1), and who alone is right how often.

    All pairs at once are products of matrices, of samples by the share.
    """
    members, reach, _ = right.shape
    levels = reach + 1
    table = np.zeros((members * levels, members * levels))
    both = np.zeros((members, members))
    for part in _parts(right, members * levels):
        hot = (part.sum(1)[:, None] == np.arange(levels)[:, None]).reshape(members * levels, -1).astype(np.float32)
        table += hot @ hot.T
        flat = part.reshape(members, -1).astype(np.float32)
        both += flat @ flat.T
    joint = table.reshape(members, levels, members, levels).transpose(0, 2, 1, 3)[one, two]
    alone = np.diag(both)[one] - both[one, two], np.diag(both)[two] - both[one, two]
    first, second = (np.rint(values).astype(np.int64) for values in alone)
    return np.rint(joint).astype(np.int64), (first, second)


def _parts(right: NDArray[np.bool_], rows: int) -> Iterator[NDArray[np.bool_]]:
    size = max(1, _ONE_HOT // rows)
    for start in range(0, right.shape[-1], size):
        yield right[..., start : start + size]
