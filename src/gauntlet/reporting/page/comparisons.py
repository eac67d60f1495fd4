"""Comparisons of variants on the page: the best variant with every other, and the numbers that are bold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation.definitions import WORST_CASE, is_worst_case
from gauntlet.reporting.aggregation.outcomes import CLEAN
from gauntlet.reporting.best import Candidate, best_variant
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.footnotes import footnote_marks
from gauntlet.reporting.formatting import budget_text, clean_marks_of
from gauntlet.reporting.tables.effect_cells import points_text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The difference of two variants' accuracies in percent, as text.

    `models` has the interval over samples and the adjusted p-value for these trained models, `trainings` those over
    training seeds.
    """

    measure: str
    variant: str
    other: str
    difference: str
    models: tuple[str, str]
    trainings: tuple[str, str]


def read_comparisons(inputs: FigureInputs) -> list[Row]:
    """Return the rows of COMPARISONS_SCHEMA on clean accuracy and on worst cases; empty without a file."""
    if not inputs.has("comparisons"):
        return []
    table = read_table(inputs.path("comparisons"))
    # Filtered before it becomes Python objects: there is a row for every pair of variants, attack and budget.
    shown = pc.or_(pc.equal(table["measure"], CLEAN), pc.starts_with(table["name"], WORST_CASE))
    rows: list[Row] = table.filter(shown).to_pylist()
    return rows


def bold_numbers(summary: Sequence[Row], compared: Sequence[Row]) -> set[tuple[str, str, float]]:
    """Return variant, name and budget of the worst-case accuracies that are bold."""
    columns: dict[tuple[str, float], dict[str, Candidate]] = {}
    for row in summary:
        if is_worst_case(row["attack"]):
            candidate = Candidate(row["robust_accuracy"], row["missing"], row["flags"])
            columns.setdefault((row["attack"], row["epsilon"]), {})[row["variant"]] = candidate
    bold, pairs = set(), _by_number(compared)
    for (name, epsilon), column in columns.items():
        if best := best_variant(column, pairs.get((name, epsilon), []), under_attack=True):
            bold.add((best, name, epsilon))
    return bold


def list_comparisons(
    compared: Sequence[Row], summary: Sequence[Row], budgets: Mapping[str, Sequence[float]]
) -> Iterator[Comparison]:
    """Yield the comparisons of the best variant with every other: clean, and each norm's worst case at its budgets.

    Variants have the footnote marks of their numbers, and clean accuracies of both the mark of missing cells at their
    difference.
    """
    marks = {(row["variant"], row["attack"], row["epsilon"]): footnote_marks([row]) for row in summary}
    marks |= {(variant, "", 0.0): clean for variant, clean in clean_marks_of(summary).items()}
    measures = {("", 0.0): "clean accuracy"}
    for norm, epsilons in budgets.items():
        for epsilon in epsilons:
            measures[f"{WORST_CASE}{norm}", epsilon] = (
                f"worst case, {NORM_TEXT.get(norm, norm)}, ε = {budget_text(epsilon)}"
            )
    pairs, stated = _by_number(compared), _stated(summary)
    for (name, epsilon), title in measures.items():
        rows = pairs.get((name, epsilon), [])
        accuracies = {row["variant"]: row["accuracy"] for row in rows}
        accuracies |= {row["other"]: row["other_accuracy"] for row in rows}
        # Those of a pair are over the seeds that both have; the best one is that of the tables.
        accuracies |= {variant: value for variant, value in stated[name, epsilon].items() if variant in accuracies}
        best = max(accuracies, key=lambda variant: accuracies[variant], default="")
        for row in rows:
            if best in (row["variant"], row["other"]):
                found = _comparison(title, best, row)
                first, second = (f"{one}{marks.get((one, name, epsilon), '')}" for one in (found.variant, found.other))
                yield replace(found, variant=first, other=second)


def _stated(summary: Sequence[Row]) -> Mapping[tuple[str, float], dict[str, float]]:
    """Map each number, name and budget, to the accuracies of the variants; clean ones are over the most samples."""
    accuracies: defaultdict[tuple[str, float], dict[str, float]] = defaultdict(dict)
    for row in sorted(summary, key=lambda row: row["samples"]):
        if row["robust_accuracy"] is not None:
            accuracies[row["attack"], row["epsilon"]][row["variant"]] = row["robust_accuracy"]
            accuracies["", 0.0][row["variant"]] = row["clean_accuracy"]
    return accuracies


def _by_number(compared: Sequence[Row]) -> Mapping[tuple[str, float], list[Row]]:
    """Group rows by the number that they compare: name and budget."""
    groups: defaultdict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in compared:
        groups[row["name"], row["epsilon"]].append(row)
    return groups


def _comparison(title: str, best: str, row: Row) -> Comparison:
    turned = row["other"] == best
    other = row["variant"] if turned else row["other"]
    sign = -1 if turned else 1
    models, trainings = (_interval(row[low], row[high], sign) for low, high in (("low", "high"), ("t_low", "t_high")))
    # The missing cells of a worst case are marked at the variant that lacks them.
    marks = footnote_marks([{"missing": row["missing"]}]) if row["measure"] == CLEAN else ""
    return Comparison(
        title,
        best,
        other,
        points_text(sign * row["difference"]) + marks,
        (models, _p(row["p_holm"])),
        (trainings, _p(row["t_p_holm"])),
    )


def _interval(low: float | None, high: float | None, sign: int) -> str:
    if low is None or high is None:
        return "–"
    ends = sorted((sign * low, sign * high))
    return f"[{points_text(ends[0])}, {points_text(ends[1])}]"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
