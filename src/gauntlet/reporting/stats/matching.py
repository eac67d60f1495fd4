"""Matched settings of a grid: those of the other factors in which every compared level has cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Matching:
    """Cells of matched settings, sorted by setting and corner, int (members,); each corner of a setting has some.

    A corner is one compared level, or one pair of levels of two factors. `starts`, int (settings, corners), are the
    positions of the first cell of each. `unmatched` counts the settings that only some corners have.
    """

    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    unmatched: int

    def corner_means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean outcome of each corner in each setting, (settings, corners, …), from values (cells, …)."""
        shape = *self.starts.shape, *values.shape[1:]
        if not self.starts.size:
            return np.zeros(shape)
        first = self.starts.reshape(-1)
        counts = np.diff(first, append=len(self.cells)).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray((np.add.reduceat(values[self.cells], first) / counts).reshape(shape))

    def members(self, settings: NDArray[np.bool_], corners: NDArray[np.bool_]) -> tuple[int, ...]:
        """Return the cells of some settings, bool (settings,), and corners, bool (corners,), ascending."""
        counts = np.diff(self.starts.reshape(-1), append=len(self.cells))
        chosen = np.repeat(np.outer(settings, corners).reshape(-1), counts)
        return tuple(sorted(self.cells[chosen].tolist()))

    def missing(self, values: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
        """Return the (cell, seed) of matched settings without a value, in order."""
        absent = np.isnan(values[self.cells]).any(tuple(range(1, values.ndim - 1)))
        members, seeds = np.nonzero(absent)
        return tuple(sorted(zip(self.cells[members].tolist(), seeds.tolist(), strict=True)))


def match_settings(
    codes: NDArray[np.int64], corners: Sequence[NDArray[np.bool_]], factors: tuple[int, ...]
) -> Matching:
    """Match cells of a grid, int (cells, factors) with -1 for no level, over all factors but those compared.

    `corners` mark the cells, bool (cells,), of each compared level of `factors`. Factors that only some of the corners
    have are no part of a setting.
    """
    marks = np.stack(corners)
    corner, cells = np.nonzero(marks)
    shared = np.asarray(np.stack([(codes[mark] >= 0).any(0) for mark in marks]).all(0))
    shared[list(factors)] = False
    settings, inverse = np.unique(codes[cells][:, shared], axis=0, return_inverse=True)
    setting = inverse.reshape(-1)
    has = np.zeros((len(settings), len(marks)), bool)
    has[setting, corner] = True
    matched = np.asarray(has.all(1))
    members = np.flatnonzero(matched[setting])
    numbers = np.cumsum(matched) - 1
    groups = numbers[setting[members]] * len(marks) + corner[members]
    order = np.argsort(groups, kind="stable")
    shape = int(matched.sum()), len(marks)
    starts = np.searchsorted(groups[order], np.arange(shape[0] * shape[1])).reshape(shape)
    return Matching(cells[members[order]], starts, int((~matched).sum()))
