"""Effects of factors in a grid: differences between levels over matched settings of the other factors, by seed.

A grid is `codes`, int (cells, factors): the number of each cell's level of each factor, -1 where the cell has no such
factor. Outcomes are `values`, float (cells, seeds) or (cells, n, seeds) for n outcomes at once, NaN where missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gauntlet.reporting.stats.intervals import t_interval
from gauntlet.reporting.stats.matching import Matching, match_settings
from gauntlet.reporting.stats.multiplicity import holm
from gauntlet.reporting.stats.seeds import paired_t_test


@dataclass(frozen=True)
class Effect:
    """A mean outcome, a difference between levels or an interaction, with its interval over training seeds.

    `levels` and `references` are the levels of the contrasted factors: the estimate of a difference is the mean outcome
    at `levels` less that at `references`; a mean has no references. `estimate`, `low`, `high` (95 %), `p` and `p_holm`
    are `()` or `(n,)`; NaN where they do not exist.

    `seeds` and `matched` count the seeds and the settings of the other factors behind the estimate. `left_out` counts
    settings in which a cell is missing, `unmatched` those that the grid does not have at every level. `missing` lists
    (cell, seed) without an outcome in settings that the grid has at every level; `cells` are those of the estimate.
    """

    levels: tuple[int, ...]
    references: tuple[int, ...]
    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    p_holm: NDArray[np.float64]
    seeds: int
    matched: int
    left_out: int
    unmatched: int
    missing: tuple[tuple[int, int], ...]
    cells: tuple[int, ...]


def factor_effects(codes: ArrayLike, values: ArrayLike, factor: int) -> list[Effect]:
    """Compare all pairs of levels of a factor, each with every level before it.

    Per seed, the difference is the mean over settings of the other factors of the outcome at one level less that at the
    other, over settings that are complete at both levels. A factor that only one of the two levels has, such as
    an option of it, is no part of a setting: the outcome is the mean over its levels. The estimate is the mean over
    seeds, its interval Student's, `p` the paired t-test (`paired_t_test`), adjusted by Holm's method over the pairs.

    With one seed, or differences that are equal in all seeds, there is neither interval nor test. A seed counts if at
    least half of the settings are complete in it; a setting is used if it is complete in every seed that counts.
    """
    grid, outcomes = np.asarray(codes), np.asarray(values, dtype=np.float64)
    column = grid[:, factor]
    pairs = itertools.combinations(np.unique(column[column >= 0]).tolist(), 2)
    return _adjusted(
        _contrast(
            outcomes,
            match_settings(grid, [column == level, column == reference], (factor,)),
            np.array([1.0, -1.0]),
            levels=(level,),
            references=(reference,),
        )
        for reference, level in pairs
    )


def factor_interactions(codes: ArrayLike, values: ArrayLike, first: int, second: int) -> list[Effect]:
    """Compare the differences between levels of the second factor at two levels of the first one.

    The estimate is (outcome at both levels - at the second's reference) - (the same at the first's reference), matched
    and tested as in `factor_effects`, and adjusted over all interactions of the two factors. All are with the same two
    reference levels: the first ones, unless the grid lacks cells and other levels have more interactions.
    """
    grid, outcomes = np.asarray(codes), np.asarray(values, dtype=np.float64)
    one, two = grid[:, first], grid[:, second]
    exists = np.zeros((one.max(initial=-1) + 1, two.max(initial=-1) + 1), dtype=bool)
    both = (one >= 0) & (two >= 0)
    exists[one[both], two[both]] = True
    reference = _reference(exists)
    return _adjusted(
        _contrast(
            outcomes,
            match_settings(
                grid,
                [(one == a) & (two == b) for a in (level[0], reference[0]) for b in (level[1], reference[1])],
                (first, second),
            ),
            np.array([1.0, -1.0, -1.0, 1.0]),
            levels=level,
            references=reference,
        )
        for level in _interacting(exists, reference)
    )


def level_means(codes: ArrayLike, values: ArrayLike, factors: Sequence[int]) -> list[Effect]:
    """Return the mean outcome at each level of one factor, or each pair of levels of two, that the grid has.

    All are means over the same settings, those that are complete at every level, so that they are comparable.
    """
    grid, outcomes = np.asarray(codes), np.asarray(values, dtype=np.float64)
    columns = grid[:, list(factors)]
    levels = np.unique(columns[(columns >= 0).all(1)], axis=0)
    if not len(levels):
        return []
    matching = match_settings(grid, [(columns == level).all(1) for level in levels], tuple(factors))
    return [
        _contrast(outcomes, matching, weights, levels=tuple(level), references=())
        for level, weights in zip(levels.tolist(), np.eye(len(levels)), strict=True)
    ]


def _contrast(
    outcomes: NDArray[np.float64],
    matching: Matching,
    weights: NDArray[np.float64],
    *,
    levels: tuple[int, ...],
    references: tuple[int, ...],
) -> Effect:
    """Estimate a weighted sum over the corners of a matching, `weights` (corners,)."""
    corners = matching.corner_means(outcomes)
    # Several outcomes have their settings in common.
    complete = np.asarray(~np.isnan(corners).any(tuple(range(1, corners.ndim - 1))))
    counted = 2 * complete.sum(0) >= max(len(complete), 1)
    used = np.asarray(complete[:, counted].all(1) & counted.any())
    sums = np.tensordot(weights, corners[used][..., counted], (0, 1))
    by_seed = sums.mean(0) if used.any() else np.full((*outcomes.shape[1:-1], 0), np.nan)
    seeds = by_seed.shape[-1]
    undefined = np.full(by_seed.shape[:-1], np.nan)
    p = paired_t_test(by_seed)
    low, high = (np.where(np.isnan(p), np.nan, end) for end in t_interval(by_seed))
    estimate = by_seed.mean(-1) if seeds else undefined
    counts = {"matched": int(used.sum()), "left_out": int((~used).sum()), "unmatched": matching.unmatched}
    missing, cells = matching.missing(outcomes), matching.members(used, weights != 0)
    # A mean is not compared with anything.
    p = p if references else undefined
    return Effect(levels, references, estimate, low, high, p, undefined, seeds, **counts, missing=missing, cells=cells)


def _adjusted(effects: Iterator[Effect]) -> list[Effect]:
    """Adjust the p-values of one family."""
    found = list(effects)
    if not found:
        return []
    adjusted = np.apply_along_axis(holm, 0, np.stack([effect.p for effect in found]))
    return [replace(effect, p_holm=p) for effect, p in zip(found, adjusted, strict=True)]


def _reference(exists: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first pair of levels that most other pairs form a rectangle of cells with, bool (levels, levels)."""
    table = exists.astype(np.int64)
    # The rectangles of (a, b): pairs (c, d) with (a, d), (c, b) and (c, d), less those in the row and column of (a, b).
    rectangles = exists * (table @ table.T @ table - table.sum(1)[:, None] - table.sum(0) + 1)
    a, b = np.unravel_index(int(rectangles.argmax()), exists.shape) if exists.size else (0, 0)
    return int(a), int(b)


def _interacting(exists: NDArray[np.bool_], reference: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of levels that form a rectangle of cells with the reference."""
    a, b = reference
    for c, d in np.argwhere(exists).tolist():
        if c != a and d != b and exists[a, b] and exists[a, d] and exists[c, b]:
            yield c, d
