"""The content of the page as plain values, from the summary or from queries on the evaluations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.reporting.aggregation import Evaluations, headline_budgets, norm_grids, open_evaluations
from gauntlet.reporting.aggregation.definitions import is_worst_case, planned_seeds, prefer_worst_cases
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.footnotes import exclusion_note, single_loss_note
from gauntlet.reporting.formatting import (
    Percent,
    budget_text,
    clean_marks,
    clean_marks_of,
    counts_text,
    masked_variants,
    percent,
    percent_text,
    sentence,
    short_number,
    units_text,
)
from gauntlet.reporting.page.certificates import read_certificates
from gauntlet.reporting.page.check_results import CheckResult, read_check_results
from gauntlet.reporting.page.choices import ChoiceSection, read_choices
from gauntlet.reporting.page.comparisons import Comparison, bold_numbers, list_comparisons, read_comparisons
from gauntlet.reporting.page.gallery import MOST_BYTES, Gallery, read_gallery
from gauntlet.reporting.page.script_data import script_data
from gauntlet.reporting.tables.effect_cells import EffectTable, effect_tables
from gauntlet.reporting.tables.published_lines import HEADS, PublishedLine, published_lines, published_notes

_CELLS = """
    SELECT variant, seed, attack, norm, count(*) AS samples, avg(correct::INT) AS clean,
        count_if(fooled) AS fooled, count_if(status = 'robust') AS robust,
        count_if(error) AS errors, median(distance) AS distance,
        sum(forwards) / count(*) AS forwards, sum(backwards) / count(*) AS backwards
    FROM evaluations GROUP BY ALL
"""

_HIDDEN = ("gauntlet.plan", "gauntlet.digest", "gauntlet.volatile", "pandas")


@dataclass(frozen=True)
class AccuracyRow:
    """A row of a table of accuracies: each of `numbers` is the text, the share, and whether it is bold.

    It is None for budgets that the attack was not run at.
    """

    variant: str
    attack: str
    clean: str
    clean_marks: str
    numbers: tuple[tuple[Percent, float, bool] | None, ...]
    distance: str


@dataclass(frozen=True)
class NormSection:
    """The accuracies in one norm: the worst case, single attacks, certificates; a norm may have certificates alone.

    `note` is "" or about the attacks of the worst case, `excluded` has a note for each attack that is not in it.
    """

    key: str
    name: str
    attacks: tuple[str, ...]
    budgets: tuple[tuple[float, str], ...]
    worst: tuple[AccuracyRow, ...]
    single: tuple[AccuracyRow, ...]
    certified: tuple[dict[str, Any], ...]
    note: str = ""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedSection:
    """The published numbers of an experiment, each next to the measured one."""

    reference: str
    heads: tuple[str, ...]
    lines: tuple[PublishedLine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PageContent:
    """The values that the template shows."""

    experiment: str
    counts: str
    units: str
    variants: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[int, ...]
    norms: tuple[NormSection, ...]
    comparisons: tuple[Comparison, ...]
    effects: tuple[EffectTable, ...]
    published: PublishedSection | None
    costs: tuple[dict[str, Any], ...]
    cells: tuple[dict[str, Any], ...]
    planned: int
    missing: tuple[str, ...]
    errors: tuple[dict[str, Any], ...]
    masked: dict[str, list[str]]
    check_results: tuple[CheckResult, ...]
    provenance: tuple[tuple[str, str], ...]
    gallery: Gallery
    choices: tuple[ChoiceSection, ...]
    script_data: dict[str, Any]


def read_content(inputs: FigureInputs, *, most_image_bytes: int = MOST_BYTES) -> PageContent:
    """Read the numbers of an experiment, and as many images as fit into `most_image_bytes`.

    Raises InputError when files are missing or damaged.
    """
    path = inputs.path("evaluations")
    rows = read_table(inputs.path("summary")).to_pylist()
    with open_evaluations(path) as evaluations:
        design = evaluations.design
        cells = _cells(evaluations)
        headline = headline_budgets(design, norm_grids(evaluations))
        budgets = {norm: _budgets(rows, norm) for norm in design.norms}
        certificates = read_certificates(evaluations, inputs, budgets, clean_marks_of(rows))
    gallery = read_gallery(inputs, most_bytes=most_image_bytes)
    compared = read_comparisons(inputs)
    bold = bold_numbers(rows, compared)
    measured = prefer_worst_cases(row for row in rows if row["seeds"])
    return PageContent(
        experiment=design.experiment,
        counts=counts_text(measured, itertools.chain(*certificates.rows.values())),
        units=units_text((*design.norms, *certificates.rows)),
        variants=design.variants,
        attacks=tuple(attack.name for attack in design.attacks),
        seeds=design.seeds,
        norms=tuple(
            NormSection(
                key=norm,
                name=NORM_TEXT.get(norm, norm),
                attacks=tuple(attack.name for attack in design.counted_in(norm)),
                budgets=tuple(
                    (value, budget_text(value)) for value in budgets.get(norm, certificates.radii.get(norm, ()))
                ),
                worst=tuple(_accuracy_rows(rows, norm, bold, worst_case=True)),
                single=tuple(_accuracy_rows(rows, norm, bold, worst_case=False)),
                certified=certificates.rows.get(norm, ()),
                note=single_loss_note(norm, design.single_losses[norm]) if norm in design.single_losses else "",
                excluded=tuple(
                    exclusion_note(attack.name, attack.exclusion)
                    for attack in design.attacks_in(norm)
                    if not attack.counts
                ),
            )
            for norm in dict.fromkeys((*design.norms, *certificates.rows))
        ),
        comparisons=tuple(list_comparisons(compared, rows, headline)),
        effects=tuple(effect_tables(_effect_rows(inputs), design)),
        published=_published(inputs),
        costs=tuple(_costs(inputs)),
        cells=tuple(cells),
        planned=len(cells) + certificates.planned,
        missing=(
            *(f"{cell['variant']}, seed {cell['seed']}, {cell['attack']}" for cell in cells if not cell["samples"]),
            *certificates.missing,
        ),
        errors=tuple(cell for cell in cells if cell["errors"]),
        masked=masked_variants(rows),
        check_results=tuple(read_check_results(inputs, design.variants)),
        provenance=tuple(_provenance(path)),
        gallery=gallery,
        choices=tuple(read_choices(inputs)),
        script_data=script_data(design, rows, inputs, gallery),
    )


def _budgets(rows: Sequence[Mapping[str, Any]], norm: str) -> list[float]:
    return sorted({row["epsilon"] for row in rows if row["norm"] == norm})


def _accuracy_rows(
    summary: Sequence[Mapping[str, Any]], norm: str, bold: Collection[tuple[str, str, float]], *, worst_case: bool
) -> Iterator[AccuracyRow]:
    """Yield the rows of the worst case or of single attacks, with a number or None for each budget of the norm."""
    budgets = _budgets(summary, norm)
    planned = planned_seeds(summary)
    rows = [row for row in summary if row["norm"] == norm and is_worst_case(row["attack"]) == worst_case]
    for variant, attack in dict.fromkeys((row["variant"], row["attack"]) for row in rows):
        by_budget = {row["epsilon"]: row for row in rows if (row["variant"], row["attack"]) == (variant, attack)}
        first = next(iter(by_budget.values()))
        numbers = (
            (percent(row), row["robust_accuracy"] or 0.0, (variant, attack, budget) in bold) if row else None
            for budget, row in ((budget, by_budget.get(budget)) for budget in budgets)
        )
        clean = percent_text(first["clean_accuracy"])
        distance = short_number(first["median_distance"])
        yield AccuracyRow(variant, attack, clean, clean_marks(first, planned), tuple(numbers), distance)


def _cells(evaluations: Evaluations) -> list[dict[str, Any]]:
    """Return every planned cell, in the order of the design; missing cells have no samples."""
    counts = {(row["variant"], row["seed"], row["attack"]): row for row in evaluations.query(_CELLS).to_pylist()}
    empty = {"samples": 0, "clean": None, "fooled": 0, "robust": 0, "errors": 0, "distance": None}
    norms = {attack.name: attack.norm for attack in evaluations.design.attacks}
    cells = []
    for variant, seed, attack in evaluations.design.cells():
        ids = {"variant": variant, "seed": seed, "attack": attack, "forwards": None, "backwards": None}
        row = ids | empty | counts.get((variant, seed, attack), {})
        cells.append(row | {"norm": NORM_TEXT.get(norms[attack], norms[attack])})
    return cells


def _costs(inputs: FigureInputs) -> Iterator[dict[str, Any]]:
    """Yield, per attack, the cost of a fooled sample over all models together, and the mean optimality over models."""
    table = read_table(inputs.path("attacks")).to_pylist() if inputs.has("attacks") else []
    for attack in dict.fromkeys(row["attack"] for row in table):
        rows = [row for row in table if row["attack"] == attack and row["samples"]]
        if not rows:
            continue
        norms = dict.fromkeys(NORM_TEXT.get(row["norm"], row["norm"]) for row in rows)
        libraries = dict.fromkeys(" ".join(filter(None, (row["library"], row["version"]))) for row in rows)
        attacked, fooled = (sum(row[column] for row in rows) for column in ("attacked", "broken"))
        optimality = [row["optimality"] for row in rows if row["optimality"] is not None]
        yield {
            "attack": attack,
            "norm": ", ".join(norms),
            "library": ", ".join(filter(None, libraries)) or "–",
            "models": len(rows),
            "success": fooled / attacked if attacked else None,
            **{
                resource: _quotient([row[resource] for row in rows], fooled)
                for resource in ("forwards", "backwards", "seconds")
            },
            "optimality": mean(optimality) if optimality else None,
        }


def _effect_rows(inputs: FigureInputs) -> list[Mapping[str, Any]]:
    return read_table(inputs.path("effects")).to_pylist() if inputs.has("effects") else []


def _published(inputs: FigureInputs) -> PublishedSection | None:
    """Return the section of published numbers; None without any."""
    rows = read_table(inputs.path("published")).to_pylist() if inputs.has("published") else []
    if not rows:
        return None
    lines, notes = published_lines(rows, inputs.titles), published_notes(rows)
    return PublishedSection(sentence(rows[0]["reference"]), HEADS, tuple(lines), tuple(notes))


def _quotient(values: Sequence[float | None], count: int) -> float | None:
    """Return a sum divided by a count; None if a summand is unknown or the count is 0."""
    known = [value for value in values if value is not None]
    return sum(known) / count if count and len(known) == len(values) else None


def _provenance(path: Path) -> Iterator[tuple[str, str]]:
    for key, value in sorted(read_metadata(path).items()):
        if key in _HIDDEN:
            continue
        try:
            text = json.dumps(json.loads(value), indent=1, sort_keys=True, ensure_ascii=False)
        except ValueError:
            text = value
        yield key.removeprefix("gauntlet."), text if "\n" in text else value
