"""The data of the page's script, as one block of JSON: curves, line styles, queries, origins, images."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.reporting.aggregation import ExperimentDesign
from gauntlet.reporting.aggregation.definitions import is_worst_case, planned_seeds
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import PALETTE, line_style
from gauntlet.reporting.formatting import budget_text, clean_marks
from gauntlet.reporting.page.gallery import Gallery
from gauntlet.reporting.page.queries import page_queries
from gauntlet.reporting.tables.rows import row_labels
from gauntlet.robustness.diagnostics.checks import CHECKS

_INTERVALS = ("wilson_low", "wilson_high", "t_low", "t_high")
_COUNTS = ("samples", "seeds", "missing", "errors", "flags")
_SHARED = ("slice", "inputs", "commit", "dirty", "versions")
_OWN = ("stage", "variant", "seed", "name", "recipe", "digest", "finished", "seconds")


def as_json(value: Any) -> str:
    """Return a value as JSON for a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def script_data(
    design: ExperimentDesign, summary: Sequence[Mapping[str, Any]], inputs: FigureInputs, gallery: Gallery
) -> dict[str, Any]:
    """Return the data of the script as plain values; `summary` has the rows of the summary."""
    evaluations = inputs.path("evaluations")
    return {
        "experiment": design.experiment,
        "variants": [{"name": variant, **_line_style(design.variants, variant)} for variant in design.variants],
        **_factors(design),
        "norms": {norm: NORM_TEXT.get(norm, norm) for norm in design.norms},
        "attacks": [
            {"name": attack.name, "norm": attack.norm, "counts": attack.counts, "without": list(attack.without)}
            for attack in design.attacks
        ],
        "accuracyChecks": [name for name, check in CHECKS.items() if check.of_accuracy],
        "curves": list(_curves(summary)),
        "queries": page_queries(design.uncounted),
        "files": {
            "rows": evaluations.name,
            "radii": inputs.certificates.name if inputs.certificates else "certificates.parquet",
            "checks": inputs.diagnostics.name if inputs.diagnostics else "diagnostics.parquet",
        },
        "table": _table_origin(evaluations),
        "origins": _origins(inputs),
        "gallery": list(gallery.entries),
    }


def _factors(design: ExperimentDesign) -> dict[str, Any]:
    """Return the headings of the factors and the level of each variant, as in tables, where these have columns."""
    labels = row_labels(design)
    return {"factors": list(labels.heads), "levels": dict(labels.of)} if labels.are_factors else {}


def _line_style(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Return color, dashes and marker of a variant, as in every figure; dashes in multiples of the line width."""
    style = line_style(variants, variant)
    dashes = style["linestyle"][1] if isinstance(style["linestyle"], tuple) else ()
    return {"color": PALETTE.index(style["color"]), "dashes": list(dashes), "marker": style["marker"]}


def _curves(summary: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the curves of the chart: one per variant and attack, and one per variant and worst case, `attack` empty."""
    curves: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    planned = planned_seeds(summary)
    for row in summary:
        if row["robust_accuracy"] is not None:
            curves.setdefault((row["norm"], row["variant"], row["attack"]), []).append(row)
    for (norm, variant, attack), rows in curves.items():
        first = rows[0]
        yield {
            "norm": norm,
            "variant": variant,
            "attack": "" if is_worst_case(first["attack"]) else attack,
            "clean": first["clean_accuracy"],
            "cleanMarks": clean_marks(first, planned),
            **{name: first[name] for name in _COUNTS},
            "points": [
                [row["epsilon"], budget_text(row["epsilon"]), row["robust_accuracy"], *(row[end] for end in _INTERVALS)]
                for row in rows
            ],
        }


def _table_origin(path: Path) -> dict[str, str]:
    """Return recipe, digest, commit and time of the table of all samples, from its metadata."""
    metadata = read_metadata(path)
    names = ("cell", "stream_digest", "commit", "dirty", "finished")
    known = {name: metadata[f"gauntlet.{name}"] for name in names if f"gauntlet.{name}" in metadata}
    return {name: re.sub(r"^gauntlet-[a-z]+:", "", value) for name, value in known.items()}


def _origins(inputs: FigureInputs) -> dict[str, Any]:
    """Return the origin of each cell; values that many cells share are stored once and referred to by index."""
    rows = read_table(inputs.path("origins")).to_pylist() if inputs.has("origins") else []
    indices: dict[str, dict[Hashable, int]] = {name: {} for name in _SHARED}
    cells = [
        [
            *(row[name] for name in _OWN),
            *(index_of.setdefault(row[name], len(index_of)) for name, index_of in indices.items()),
        ]
        for row in rows
    ]
    parsed = {name: [json.loads(str(text)) for text in indices.pop(name)] for name in ("slice", "inputs")}
    texts = {name: list(index_of) for name, index_of in indices.items()}
    return {"columns": [*_OWN, *_SHARED], "shared": {**parsed, **texts}, "cells": cells}
