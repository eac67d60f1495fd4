"""What the page shows, as plain values: every number comes from the summary or from one query over the evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.reporting.aggregation import Evaluations, norm_grids, open_evaluations
from gauntlet.reporting.aggregation.definitions import CERTIFIED, certified_at
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.formatting import (
    Percent,
    budget_text,
    is_worst_case,
    masked_variants,
    percent,
    sample_count_text,
)
from gauntlet.reporting.page.embedding import embedded
from gauntlet.reporting.page.gallery import MOST_BYTES, Gallery, read_gallery
from gauntlet.robustness.diagnostics.checks import CHECKS, worst_verdict

_CELLS = """
    SELECT variant, seed, attack, norm, count(*) AS samples, avg(correct::INT) AS clean,
        count_if(fooled) AS fooled, count_if(status = 'robust') AS robust,
        count_if(error) AS errors, median(distance) AS distance,
        sum(forwards) / count(*) AS forwards, sum(backwards) / count(*) AS backwards
    FROM evaluations GROUP BY ALL
"""

_CERTIFIED = f"""
    SELECT variant, certificate, norm, count(*) AS samples, count(DISTINCT seed) AS seeds,
        avg(({CERTIFIED})::INT) AS certified, median(radius) FILTER ({CERTIFIED}) AS median,
        [{{shares}}] AS shares
    FROM read_parquet($path, hive_partitioning = false) WHERE norm = $norm GROUP BY ALL
"""

_HIDDEN = ("gauntlet.plan", "gauntlet.digest", "gauntlet.volatile", "pandas")


@dataclass(frozen=True)
class Line:
    """One line of a table of accuracies: `numbers` has None where nothing was run at a budget."""

    variant: str
    attack: str
    clean: str
    numbers: tuple[tuple[Percent, float] | None, ...]
    distance: str


@dataclass(frozen=True)
class NormSection:
    """The accuracies in one norm: the worst case, single attacks, certificates."""

    key: str
    name: str
    attacks: tuple[str, ...]
    budgets: tuple[tuple[float, str], ...]
    worst: tuple[Line, ...]
    single: tuple[Line, ...]
    certified: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Finding:
    """One check on one variant, in one norm or none: the gravest verdict of its seeds, and what stands behind it."""

    verdict: str
    seed: int
    norm: str
    value: str
    threshold: str
    evidence: str
    samples: str


@dataclass(frozen=True)
class Question:
    """One check of gradient masking: what it asks, and what it found of each variant, in the order of the variants."""

    name: str
    question: str
    verdicts: tuple[str, ...]
    findings: tuple[tuple[str, Finding], ...]


@dataclass(frozen=True)
class Content:
    """Everything the template fills in."""

    experiment: str
    counts: str
    variants: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[int, ...]
    norms: tuple[NormSection, ...]
    costs: tuple[dict[str, Any], ...]
    cells: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]
    errors: tuple[dict[str, Any], ...]
    masked: dict[str, list[str]]
    questions: tuple[Question, ...]
    provenance: tuple[tuple[str, str], ...]
    gallery: Gallery
    embedded: dict[str, Any]


def read_content(inputs: FigureInputs, *, most_image_bytes: int = MOST_BYTES) -> Content:
    """Read the numbers of an experiment, and images as far as there is room.

    Raises InputError when its files are missing or damaged.
    """
    path = inputs.path("evaluations")
    rows = read_table(inputs.path("summary")).to_pylist()
    with open_evaluations(path) as evaluations:
        plan = evaluations.design
        cells = _cells(evaluations)
        grids = norm_grids(evaluations)
        certified = {norm: _certified(evaluations, inputs, norm, grids[norm]) for norm in plan.norms}
    gallery = read_gallery(inputs, most_bytes=most_image_bytes)
    measured = [row for row in rows if is_worst_case(row) and row["seeds"]]
    return Content(
        experiment=plan.experiment,
        counts="; ".join(dict.fromkeys(sample_count_text(row) for row in measured)) or "nothing was measured",
        variants=plan.variants,
        attacks=tuple(attack.name for attack in plan.attacks),
        seeds=plan.seeds,
        norms=tuple(
            NormSection(
                key=norm,
                name=NORM_TEXT.get(norm, norm),
                attacks=tuple(attack.name for attack in plan.attacks_in(norm) if attack.counts),
                budgets=tuple((budget, budget_text(budget)) for budget in _budgets(rows, norm)),
                worst=tuple(_lines(rows, norm, worst_case=True)),
                single=tuple(_lines(rows, norm, worst_case=False)),
                certified=certified[norm],
            )
            for norm in plan.norms
        ),
        costs=tuple(_costs(inputs)),
        cells=tuple(cells),
        missing=tuple(
            f"{cell['variant']}, seed {cell['seed']}, {cell['attack']}" for cell in cells if not cell["samples"]
        ),
        errors=tuple(cell for cell in cells if cell["errors"]),
        masked=masked_variants(rows),
        questions=tuple(_questions(inputs, plan.variants)),
        provenance=tuple(_provenance(path)),
        gallery=gallery,
        embedded=embedded(plan, rows, inputs, gallery),
    )


def _budgets(rows: Sequence[Mapping[str, Any]], norm: str) -> list[float]:
    return sorted({row["epsilon"] for row in rows if row["norm"] == norm})


def _lines(rows: Sequence[Mapping[str, Any]], norm: str, *, worst_case: bool) -> Iterator[Line]:
    """Yield the lines of the worst case or of single attacks, with a number or None for each budget of the norm."""
    budgets = _budgets(rows, norm)
    rows = [row for row in rows if row["norm"] == norm and is_worst_case(row) == worst_case]
    for variant, attack in dict.fromkeys((row["variant"], row["attack"]) for row in rows):
        mine = {row["epsilon"]: row for row in rows if (row["variant"], row["attack"]) == (variant, attack)}
        first = next(iter(mine.values()))
        numbers = ((percent(mine[at]), mine[at]["robust_accuracy"] or 0.0) if at in mine else None for at in budgets)
        clean = "–" if first["clean_accuracy"] is None else f"{100 * first['clean_accuracy']:.1f}"
        distance = "–" if first["median_distance"] is None else f"{first['median_distance']:.3g}"
        yield Line(variant, attack, clean, tuple(numbers), distance)


def _cells(evaluations: Evaluations) -> list[dict[str, Any]]:
    """List every planned cell in the plan's order; those that are missing have no samples."""
    found = {(row["variant"], row["seed"], row["attack"]): row for row in evaluations.query(_CELLS).to_pylist()}
    nothing = {"samples": 0, "clean": None, "fooled": 0, "robust": 0, "errors": 0, "distance": None}
    norms = {attack.name: attack.norm for attack in evaluations.design.attacks}
    cells = []
    for variant, seed, attack in evaluations.design.cells():
        head = {"variant": variant, "seed": seed, "attack": attack, "forwards": None, "backwards": None}
        row = head | nothing | found.get((variant, seed, attack), {})
        cells.append(row | {"norm": NORM_TEXT.get(norms[attack], norms[attack])})
    return cells


def _certified(
    evaluations: Evaluations, inputs: FigureInputs, norm: str, grid: Sequence[float]
) -> tuple[dict[str, Any], ...]:
    """Give, per variant and certificate, the share of samples that are certified at each budget of the norm."""
    if not inputs.has("certificates"):
        return ()
    shares = ", ".join(f"avg(({certified_at(repr(budget))})::INT)" for budget in grid)
    table = evaluations.query(_CERTIFIED.format(shares=shares), norm=norm, path=str(inputs.certificates))
    place = {variant: number for number, variant in enumerate(inputs.variants)}
    certifies = {one.name: one.certifies for one in evaluations.design.certificates}
    rows = [row | {"certifies": certifies.get(row["certificate"], "model")} for row in table.to_pylist()]
    return tuple(sorted(rows, key=lambda row: (place.get(row["variant"], len(place)), row["certificate"])))


def _costs(inputs: FigureInputs) -> Iterator[dict[str, Any]]:
    """Give, per attack, what a broken sample cost over all models together, and its mean optimality over models."""
    rows = read_table(inputs.path("attacks")).to_pylist() if inputs.has("attacks") else []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        mine = [row for row in rows if row["attack"] == attack and row["samples"]]
        if not mine:
            continue
        norms = dict.fromkeys(NORM_TEXT.get(row["norm"], row["norm"]) for row in mine)
        made_by = dict.fromkeys(" ".join(filter(None, (row["library"], row["version"]))) for row in mine)
        attacked, broken = (sum(row[column] for row in mine) for column in ("attacked", "broken"))
        prices = ("forwards", "backwards", "seconds")
        yield {
            "attack": attack,
            "norm": ", ".join(norms),
            "library": ", ".join(filter(None, made_by)) or "–",
            "models": len(mine),
            "success": broken / attacked if attacked else None,
            **{name: _quotient([row[name] for row in mine], broken) for name in prices},
            "optimality": mean(known)
            if (known := [x for row in mine if (x := row["optimality"]) is not None])
            else None,
        }


def _quotient(values: Sequence[float | None], count: int) -> float | None:
    """Divide a sum by a count; None where a summand is unknown or nothing was counted."""
    known = [value for value in values if value is not None]
    return sum(known) / count if count and len(known) == len(values) else None


def _questions(inputs: FigureInputs, variants: Sequence[str]) -> Iterator[Question]:
    """Give every check that was made, with the gravest of its verdicts per variant and what it rests on."""
    rows = read_table(inputs.path("diagnostics")).to_pylist() if inputs.has("diagnostics") else []
    for name, check in CHECKS.items():
        mine = [row for row in rows if row["check"] == name]
        if not mine:
            continue
        verdicts = tuple(
            worst_verdict(row["verdict"] for row in mine if row["variant"] == variant) for variant in variants
        )
        told = [row for row in mine if row["verdict"] in ("fail", "warn")]
        told.sort(key=lambda row: (row["verdict"], variants.index(row["variant"]), row["seed"]))
        yield Question(name, check.question, verdicts, tuple((row["variant"], _finding(row)) for row in told))


def _finding(row: Mapping[str, Any]) -> Finding:
    norm = NORM_TEXT.get(row["norm"], row["norm"]) if row["norm"] else ""
    samples = ", ".join(map(str, row["samples"] or ()))
    numbers = f"{row['value']:.3g}", f"{row['threshold']:.3g}"
    return Finding(row["verdict"], row["seed"], norm, *numbers, row["evidence"], samples)


def _provenance(path: Path) -> Iterator[tuple[str, str]]:
    for key, value in sorted(read_metadata(path).items()):
        if key in _HIDDEN:
            continue
        try:
            shown = json.dumps(json.loads(value), indent=1, sort_keys=True, ensure_ascii=False)
        except ValueError:
            shown = value
        yield key.removeprefix("gauntlet."), shown if "\n" in shown else value
