"""Checks that compare the attacks on one model: which attack fooled which sample, at what budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.core.budgets import CLOSE
from gauntlet.robustness.diagnostics.measurements import Measurement

COLUMNS = ("index", "label", "clean_prediction", "epsilon", "status", "sample_hash", "backwards")
"""The columns of an evaluation that are read; GRADIENT_COLUMNS too where the table has them."""

GRADIENT_COLUMNS = {"nonfinite_in_attacks": "nonfinite_gradients", "zero_in_attacks": "zero_gradients"}


@dataclass(frozen=True)
class ComparedAttack:
    """Properties of an attack that decide what it is compared with.

    `access` is gradient, scores, decision or none; `search` is random for noise; `steps` is 1 for a single gradient
    step, None if unknown; `surrogate` names the view that gradients are taken through; `transfer` marks an attack whose
    images come from another model; `epsilons` are the budgets it was run at, None for a minimum-norm attack; `losses`
    are those that it ascends, empty if unknown.
    """

    name: str
    norm: str
    access: str = "gradient"
    search: str = ""
    steps: int | None = None
    surrogate: str | None = None
    transfer: bool = False
    epsilons: tuple[float, ...] | None = None
    losses: tuple[str, ...] = ()

    @property
    def is_white_box(self) -> bool:
        """True for an attack that follows gradients of the model itself."""
        return self.access == "gradient" and not self.transfer

    @property
    def is_adaptive(self) -> bool:
        """True for an attack designed for the model: it takes gradients through a view other than the logits."""
        return self.is_white_box and self.surrogate not in (None, "logits")

    @property
    def is_stock(self) -> bool:
        """True for a white-box attack on the logits, as available for any model."""
        return self.is_white_box and not self.is_adaptive

    def is_comparable_with(self, stronger: ComparedAttack) -> bool:
        """Return whether the stronger attack was run at one of this attack's budgets or at a larger one."""
        if not self.epsilons or not stronger.epsilons:
            return True
        return min(self.epsilons) <= max(stronger.epsilons) * (1 + CLOSE)


AttackFilter = Callable[[ComparedAttack], bool]


@dataclass(frozen=True)
class _Comparison:
    """The attacks that should not win (`weaker`), those that should (`stronger`), and what the evidence calls both."""

    weaker: AttackFilter
    stronger: AttackFilter
    weaker_name: str
    stronger_name: str


_COMPARISONS: Mapping[str, _Comparison] = {
    "one_step_beats_many": _Comparison(
        lambda attack: attack.is_stock and attack.steps == 1,
        lambda attack: attack.is_stock and attack.steps != 1,
        "single-step",
        "iterative",
    ),
    "black_box_beats_white_box": _Comparison(
        lambda attack: not attack.is_white_box and attack.search != "random",
        lambda attack: attack.is_white_box,
        "black-box or transfer",
        "white-box",
    ),
    "noise_beats_gradients": _Comparison(
        lambda attack: not attack.is_white_box and attack.search == "random",
        lambda attack: attack.is_white_box,
        "noise",
        "white-box",
    ),
    "adaptive_beats_stock": _Comparison(
        lambda attack: attack.is_adaptive,
        lambda attack: attack.is_stock and attack.steps != 1,
        "adaptive",
        "stock iterative",
    ),
}

_NORMS_WITHOUT_ASCENT = ("l0",)

_EQUAL_DISTANCES = 0.02
"""Share by which one of two measured distances may be larger without being worse. A choice: on a plain network, which
masks nothing, the boundary attack ends nearer than FAB on some images, by less than half of this."""


def compare_attacks(tables: Sequence[tuple[ComparedAttack, pa.Table]]) -> list[Measurement]:
    """Measure every check of this module on one model, in each norm of its attacks.

    A table has the COLUMNS of one attack's evaluation; samples are joined by content. Shares are of the samples on
    which both a weaker and a stronger attack were run. A sample counts if it is classified correctly, a weaker attack
    fooled it, a stronger attack was run at that budget or a larger one, and no stronger attack fooled it at the
    smallest such budget. Budgets are equal up to the rounding of a written number, distances of two minimum-norm
    attacks up to 2 %. Where no stronger attack has a budget to compare with, the check does not apply.
    """
    measurements: list[Measurement] = []
    for norm in dict.fromkeys(attack.norm for attack, _ in tables):
        in_norm = [(attack, table) for attack, table in tables if attack.norm == norm]
        outcomes = _Outcomes.from_tables(in_norm)
        for check, comparison in _COMPARISONS.items():
            if norm in _NORMS_WITHOUT_ASCENT:
                reason = f"attacks in {norm} do not follow the gradient, so a comparison does not show masking"
                measurements.append(Measurement.not_applicable(check, norm, reason))
                continue
            measurements.append(_compare(check, norm, outcomes, comparison))
        measurements += _gradient_faults(norm, in_norm)
    return measurements


@dataclass
class _Outcomes:
    """The correctly classified samples, by `index` `(N,)`, and the smallest budget that fooled each, per attack.

    Budgets are float64 `(N,)`: inf where the attack failed, NaN where its result is unknown (an error, or no row).
    """

    index: NDArray[np.int64]
    budgets: dict[ComparedAttack, NDArray[np.float64]]

    def known(self, attacks: Sequence[ComparedAttack]) -> NDArray[np.bool_]:
        """Return the samples on which the result of at least one of the attacks is known, bool `(N,)`."""
        return np.asarray(np.any([~np.isnan(self.budgets[attack]) for attack in attacks], axis=0))

    @classmethod
    def from_tables(cls, tables: Sequence[tuple[ComparedAttack, pa.Table]]) -> _Outcomes:
        positions: dict[tuple[int, str], int] = {}
        index: list[int] = []
        budgets: dict[ComparedAttack, NDArray[np.float64]] = {}
        for attack, table in tables:
            samples = list(zip(table["index"].to_pylist(), table["sample_hash"].to_pylist(), strict=True))
            correct = (_column(table, "label") == _column(table, "clean_prediction")).tolist()
            # Null reads as NaN.
            epsilon = _column(table, "epsilon").astype(np.float64)
            failed = np.asarray(table["status"].to_pylist()) == "error"
            epsilon = np.where(failed, np.nan, np.where(np.isnan(epsilon), np.inf, epsilon))
            rows = []
            for sample, is_correct in zip(samples, correct, strict=True):
                if is_correct and sample not in positions:
                    positions[sample] = len(index)
                    index.append(sample[0])
                rows.append(positions[sample] if is_correct else -1)
            targets = np.asarray(rows, dtype=np.int64)
            values = np.full(len(index), np.nan)
            values[targets[targets >= 0]] = epsilon[targets >= 0]
            budgets[attack] = values
        size = len(index)
        padded = {
            attack: np.pad(values, (0, size - len(values)), constant_values=np.nan)
            for attack, values in budgets.items()
        }
        return cls(np.asarray(index, dtype=np.int64), padded)


def _compare(check: str, norm: str, outcomes: _Outcomes, comparison: _Comparison) -> Measurement:
    weaker = [attack for attack in outcomes.budgets if comparison.weaker(attack)]
    stronger = [attack for attack in outcomes.budgets if comparison.stronger(attack)]
    if not weaker or not stronger:
        absent = comparison.stronger_name if weaker else comparison.weaker_name
        return Measurement.not_applicable(check, norm, f"there is no {absent} attack in this norm")
    pairs = [(attack, rival) for attack in weaker for rival in stronger if attack.is_comparable_with(rival)]
    if not pairs:
        reason = f"all {comparison.stronger_name} attacks have smaller budgets than the {comparison.weaker_name} ones"
        return Measurement.not_applicable(check, norm, reason)
    weaker, stronger = ([*dict.fromkeys(attacks)] for attacks in zip(*pairs, strict=True))
    surprising = np.zeros(len(outcomes.index), dtype=bool)
    counts: list[str] = []
    for attack in weaker:
        missed = _missed(outcomes, attack, stronger)
        surprising |= missed
        counts.append(f"{attack.name} {int(missed.sum())}")
    names = ", ".join(attack.name for attack in stronger)
    # Attacks on some of the samples cannot be compared on the others.
    known = (outcomes.known(weaker) & outcomes.known(stronger)).sum()
    return Measurement.share(
        check,
        norm,
        outcomes.index[surprising].tolist(),
        int(known),
        f"fooled by a {comparison.weaker_name} attack ({', '.join(counts)}) and by no {comparison.stronger_name} attack"
        f" within that ε ({names})",
    )


def _missed(outcomes: _Outcomes, attack: ComparedAttack, stronger: Sequence[ComparedAttack]) -> NDArray[np.bool_]:
    """Return which samples `attack` fools at a budget at which stronger ones were run and failed: bool `(N,)`."""
    budgets = outcomes.budgets[attack]
    compared = np.zeros(len(budgets), dtype=bool)
    matched = np.zeros(len(budgets), dtype=bool)
    for rival in stronger:
        tolerance = _EQUAL_DISTANCES if attack.epsilons is None and rival.epsilons is None else CLOSE
        limit = _comparable_budget(budgets, rival, tolerance)
        reached = outcomes.budgets[rival]
        compared |= np.isfinite(limit) & ~np.isnan(reached)
        matched |= np.isfinite(limit) & (reached <= limit)
    return np.asarray(np.isfinite(budgets) & compared & ~matched)


def _comparable_budget(budgets: NDArray[np.float64], rival: ComparedAttack, tolerance: float) -> NDArray[np.float64]:
    """Return the rival's smallest budget that is at least `budgets`; inf if it has none, or a budget is unknown.

    Budgets that differ by the share `tolerance` count as equal.
    """
    known = np.where(np.isnan(budgets), np.inf, budgets)
    if rival.epsilons is None:
        return np.asarray(known * (1 + tolerance))
    grid = np.append(np.sort(np.asarray(rival.epsilons, dtype=np.float64)), np.inf)
    return np.asarray(grid[np.searchsorted(grid * (1 + tolerance), known, side="left").clip(max=len(grid) - 1)])


def _gradient_faults(norm: str, tables: Sequence[tuple[ComparedAttack, pa.Table]]) -> Iterator[Measurement]:
    """Count the samples on which gradient attacks met zero or non-finite gradients, where evaluations recorded them."""
    for check, column in GRADIENT_COLUMNS.items():
        recorded = [(attack, table) for attack, table in tables if attack.is_white_box and column in table.column_names]
        if check == "zero_in_attacks":
            # A minimum-norm attack may rest where its loss is 0, beyond the boundary: Carlini-Wagner's does.
            recorded = [(attack, table) for attack, table in recorded if attack.epsilons is not None]
        faulty: set[int] = set()
        attacked: set[int] = set()
        total = 0
        for attack, table in recorded:
            counts, index = _column(table, column), _column(table, "index")
            if check == "zero_in_attacks" and "dlr" in attack.losses:
                # DLR is constant where the label's logit is the third, beyond the boundary of any model.
                counts = np.where(_column(table, "status") == "adversarial", 0, counts)
            attacked |= set(index[_column(table, "backwards") > 0].tolist())
            faulty |= set(index[counts > 0].tolist())
            total += int(counts.sum())
        if not attacked:
            reason = "no gradient was taken" if recorded else "no gradient attack in this norm recorded it"
            yield Measurement.not_applicable(check, norm, reason)
            continue
        names = ", ".join(attack.name for attack, _ in recorded)
        evidence = f"{column.removesuffix('_gradients')} gradients, {total} in all ({names})"
        yield Measurement.share(check, norm, sorted(faulty), len(attacked | faulty), evidence)


def _column(table: pa.Table, name: str) -> NDArray:
    return np.asarray(table[name].to_numpy())
