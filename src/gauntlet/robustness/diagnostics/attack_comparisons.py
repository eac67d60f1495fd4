"""Checks that need only what attacks did to one model: who fooled which sample, and at what budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.robustness.diagnostics.measurements import Measurement, inapplicable, share

COLUMNS = ("index", "label", "clean_prediction", "epsilon", "status", "sample_hash", "backwards")
"""The columns of an evaluation that are read; GRADIENT_COLUMNS too where the table has them."""

GRADIENT_COLUMNS = {"nonfinite_in_attacks": "nonfinite_gradients", "zero_in_attacks": "zero_gradients"}


@dataclass(frozen=True)
class AttackFacts:
    """What comparisons must know of an attack.

    `access` is gradient, or what it does without (scores, decision); `search` is random for noise; `steps` is 1 for a
    single gradient step, None where unknown; `surrogate` names the view it takes gradients through; `transfer` says
    that its images come from another model; `epsilons` are the budgets that it was run at, None where it looks for the
    smallest distance.
    """

    name: str
    norm: str
    access: str = "gradient"
    search: str = ""
    steps: int | None = None
    surrogate: str | None = None
    transfer: bool = False
    epsilons: tuple[float, ...] | None = None

    @property
    def is_white_box(self) -> bool:
        """Tell whether it follows gradients of the model itself."""
        return self.access == "gradient" and not self.transfer

    @property
    def is_adaptive(self) -> bool:
        """Tell whether it was made for the model: it takes gradients through a view other than the logits."""
        return self.is_white_box and self.surrogate not in (None, "logits")

    @property
    def is_stock(self) -> bool:
        """Tell whether it is a white-box attack on the logits, such as one has for any model."""
        return self.is_white_box and not self.is_adaptive


Kind = Callable[[AttackFacts], bool]

_WITHOUT_ASCENT = ("l0",)

_PAIRS: Mapping[str, tuple[Kind, Kind, str, str]] = {
    "one_step_beats_many": (
        lambda one: one.is_stock and one.steps == 1,
        lambda one: one.is_stock and one.steps != 1,
        "single-step",
        "iterative",
    ),
    "black_box_beats_white_box": (
        lambda one: not one.is_white_box and one.search != "random",
        lambda one: one.is_white_box,
        "black-box or transfer",
        "white-box",
    ),
    "noise_beats_gradients": (
        lambda one: not one.is_white_box and one.search == "random",
        lambda one: one.is_white_box,
        "noise",
        "white-box",
    ),
    "adaptive_beats_stock": (
        lambda one: one.is_adaptive,
        lambda one: one.is_stock and one.steps != 1,
        "adaptive",
        "stock iterative",
    ),
}
"""Check to: the attacks that should not win, those that should, and what both are called."""


def compare(tables: Sequence[tuple[AttackFacts, pa.Table]]) -> list[Measurement]:
    """Measure every check of this kind on one model, in each norm of its attacks.

    A table has the COLUMNS of one attack's evaluation; samples are joined by content. A sample counts where it is
    classified correctly, and an attack that should win was run at the budget at which it lost, or at a larger one.
    """
    rows: list[Measurement] = []
    for norm in dict.fromkeys(facts.norm for facts, _ in tables):
        here = [(facts, table) for facts, table in tables if facts.norm == norm]
        outcomes = _Outcomes.of(here)
        for check, (weak, strong, called, other) in _PAIRS.items():
            if norm in _WITHOUT_ASCENT:
                reason = f"attacks in {norm} do not follow the gradient: that one beats another says nothing of it"
                rows.append(inapplicable(check, norm, reason))
                continue
            rows.append(_compare(check, norm, outcomes, weak, strong, called, other))
        rows += _gradients(norm, here)
    return rows


@dataclass
class _Outcomes:
    """Per attack and sample the budget that fooled it, float64, inf if none; samples are those that are correct."""

    index: NDArray[np.int64]
    broken: dict[AttackFacts, NDArray[np.float64]]

    @classmethod
    def of(cls, tables: Sequence[tuple[AttackFacts, pa.Table]]) -> _Outcomes:
        positions: dict[str, int] = {}
        index: list[int] = []
        read: dict[AttackFacts, NDArray[np.float64]] = {}
        for facts, table in tables:
            hashes, numbers = table["sample_hash"].to_pylist(), table["index"].to_pylist()
            correct = (_column(table, "label") == _column(table, "clean_prediction")).tolist()
            # Null reads as NaN; as does an error, of which nothing is known.
            epsilon = _column(table, "epsilon").astype(np.float64)
            unknown = np.asarray(table["status"].to_pylist()) == "error"
            epsilon = np.where(unknown, np.nan, np.where(np.isnan(epsilon), np.inf, epsilon))
            rows = []
            for name, number, kept in zip(hashes, numbers, correct, strict=True):
                if kept and name not in positions:
                    positions[name] = len(index)
                    index.append(number)
                rows.append(positions[name] if kept else -1)
            chosen = np.asarray(rows, dtype=np.int64)
            values = np.full(len(index), np.nan)
            values[chosen[chosen >= 0]] = epsilon[chosen >= 0]
            read[facts] = values
        size = len(index)
        broken = {facts: np.pad(one, (0, size - len(one)), constant_values=np.nan) for facts, one in read.items()}
        return cls(np.asarray(index, dtype=np.int64), broken)


def _compare(
    check: str, norm: str, outcomes: _Outcomes, weak: Kind, strong: Kind, called: str, other: str
) -> Measurement:
    weaker = [facts for facts in outcomes.broken if weak(facts)]
    stronger = [facts for facts in outcomes.broken if strong(facts)]
    if not weaker or not stronger:
        return inapplicable(check, norm, f"there is no {called if not weaker else other} attack in this norm")
    surprising = np.zeros(len(outcomes.index), dtype=bool)
    by: dict[str, int] = {}
    for facts in weaker:
        here = _missed(outcomes, facts, stronger)
        surprising |= here
        by[facts.name] = int(here.sum())
    winners = ", ".join(f"{name} {count}" for name, count in by.items())
    losers = ", ".join(facts.name for facts in stronger)
    return share(
        check,
        norm,
        outcomes.index[surprising].tolist(),
        len(outcomes.index),
        f"fooled by a {called} attack ({winners}) where no {other} one does it within that ε ({losers})",
    )


def _missed(outcomes: _Outcomes, facts: AttackFacts, stronger: Sequence[AttackFacts]) -> NDArray[np.bool_]:
    """Say which samples one attack fools at a budget at which none of the stronger ones does, though one was run."""
    at = outcomes.broken[facts]
    compared = np.zeros(len(at), dtype=bool)
    matched = np.zeros(len(at), dtype=bool)
    for rival in stronger:
        limit = _comparable(at, rival)
        reached = outcomes.broken[rival]
        compared |= np.isfinite(limit) & ~np.isnan(reached)
        matched |= np.isfinite(limit) & (reached <= limit)
    return np.asarray(np.isfinite(at) & compared & ~matched)


def _comparable(at: NDArray[np.float64], rival: AttackFacts) -> NDArray[np.float64]:
    """Give the smallest budget of a rival's that is at least `at`; inf where it has none, or `at` is unknown."""
    if rival.epsilons is None:
        return np.where(np.isnan(at), np.inf, at)
    # As the rows': a double 0.1 is smaller than the 0.1 that a row holds in float32.
    grid = np.append(np.sort(np.asarray(rival.epsilons, dtype=np.float32)).astype(np.float64), np.inf)
    known = np.where(np.isnan(at), np.inf, at)
    return np.asarray(grid[np.searchsorted(grid, known, side="left").clip(max=len(grid) - 1)])


def _gradients(norm: str, tables: Sequence[tuple[AttackFacts, pa.Table]]) -> Iterator[Measurement]:
    """Count the samples on which gradient attacks met gradients of no use, where evaluations recorded them."""
    for check, column in GRADIENT_COLUMNS.items():
        told = [(facts, one) for facts, one in tables if facts.is_white_box and column in one.column_names]
        if check == "zero_in_attacks":
            # A search for the nearest point may rest where its loss is 0, beyond the boundary: Carlini-Wagner's does.
            told = [(facts, one) for facts, one in told if facts.epsilons is not None]
        met: set[int] = set()
        asked: set[int] = set()
        evaluations = 0
        for _, table in told:
            counts, index = _column(table, column), _column(table, "index")
            asked |= set(index[_column(table, "backwards") > 0].tolist())
            met |= set(index[counts > 0].tolist())
            evaluations += int(counts.sum())
        if not asked:
            reason = "no gradient attack in this norm recorded it" if not told else "no gradient was taken"
            yield inapplicable(check, norm, reason)
            continue
        names = ", ".join(facts.name for facts, _ in told)
        kind = column.removesuffix("_gradients")
        yield share(check, norm, sorted(met), len(asked | met), f"{kind} gradients, {evaluations} in all ({names})")


def _column(table: pa.Table, name: str) -> NDArray:
    return np.asarray(table[name].to_numpy())
