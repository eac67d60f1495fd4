"""What the page's script works with, as one block of JSON: curves, looks, queries, origins, images."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.reporting.aggregation import ExperimentDesign
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import PALETTE, line_style
from gauntlet.reporting.formatting import budget_text, is_worst_case
from gauntlet.reporting.page.gallery import Gallery
from gauntlet.reporting.page.queries import page_queries

_INTERVALS = ("wilson_low", "wilson_high", "t_low", "t_high")
_COUNTS = ("samples", "seeds", "missing", "errors", "flags")
_SHARED = ("slice", "inputs", "commit", "dirty", "versions")
_OWN = ("stage", "variant", "seed", "name", "recipe", "digest", "finished", "seconds")


def as_json(value: Any) -> str:
    """Render a value as JSON that may stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def embedded(
    plan: ExperimentDesign, rows: Sequence[Mapping[str, Any]], inputs: FigureInputs, gallery: Gallery
) -> dict[str, Any]:
    """Gather what the script needs as plain values; `rows` are those of the summary."""
    evaluations = inputs.path("evaluations")
    return {
        "experiment": plan.experiment,
        "variants": [{"name": variant, **_look(plan.variants, variant)} for variant in plan.variants],
        "norms": {norm: NORM_TEXT.get(norm, norm) for norm in plan.norms},
        "attacks": [
            {"name": one.name, "norm": one.norm, "counts": one.counts, "without": list(one.without)}
            for one in plan.attacks
        ],
        "curves": list(_curves(rows)),
        "queries": page_queries(plan.uncounted),
        "files": {
            "rows": evaluations.name,
            "radii": inputs.certificates.name if inputs.certificates else "certificates.parquet",
            "checks": inputs.diagnostics.name if inputs.diagnostics else "diagnostics.parquet",
        },
        "table": _made(evaluations),
        "origins": _origins(inputs),
        "gallery": list(gallery.entries),
    }


def _look(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Give a variant the colour, dashes and marker that it has in every figure; dashes in widths of the line."""
    look = line_style(variants, variant)
    dashes = look["linestyle"][1] if isinstance(look["linestyle"], tuple) else ()
    return {"color": PALETTE.index(look["color"]), "dashes": list(dashes), "marker": look["marker"]}


def _curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give every line of the chart: a variant under one attack, or in the worst case (`attack` is empty then)."""
    lines: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["robust_accuracy"] is not None:
            lines.setdefault((row["norm"], row["variant"], row["attack"]), []).append(row)
    for (norm, variant, attack), mine in lines.items():
        first = mine[0]
        yield {
            "norm": norm,
            "variant": variant,
            "attack": "" if is_worst_case(first) else attack,
            "clean": first["clean_accuracy"],
            **{name: first[name] for name in _COUNTS},
            "points": [
                [row["epsilon"], budget_text(row["epsilon"]), row["robust_accuracy"], *(row[end] for end in _INTERVALS)]
                for row in mine
            ],
        }


def _made(path: Path) -> dict[str, str]:
    """Say what made the table that the numbers come from."""
    made = read_metadata(path)
    names = ("cell", "stream_digest", "commit", "dirty", "finished")
    known = {name: made[f"gauntlet.{name}"] for name in names if f"gauntlet.{name}" in made}
    return {name: re.sub(r"^gauntlet-[a-z]+:", "", value) for name, value in known.items()}


def _origins(inputs: FigureInputs) -> dict[str, Any]:
    """Give what made each cell; what many cells share stands once, and they name it by its place."""
    rows = read_table(inputs.path("origins")).to_pylist() if inputs.has("origins") else []
    shared: dict[str, dict[Hashable, int]] = {name: {} for name in _SHARED}
    cells = [
        [
            *(row[name] for name in _OWN),
            *(places.setdefault(row[name], len(places)) for name, places in shared.items()),
        ]
        for row in rows
    ]
    parsed = {name: [json.loads(str(text)) for text in shared.pop(name)] for name in ("slice", "inputs")}
    plain = {name: list(places) for name, places in shared.items()}
    return {"columns": [*_OWN, *_SHARED], "shared": {**parsed, **plain}, "cells": cells}
