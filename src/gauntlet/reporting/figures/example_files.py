"""Adversarial images that evaluations kept, with the numbers of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.aggregation.definitions import CERTIFIED
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs

Array = NDArray[np.float32]
_Radii = dict[tuple[int, str], float]

_PROBABILITIES = ("clean_probabilities", "adversarial_probabilities")

_ROWS = """
    SELECT index, sample_hash, label, adversarial_prediction, norm, distance FROM evaluations
    WHERE variant = $variant AND seed = $seed AND attack = $attack AND fooled
"""
_RADII = f"""
    SELECT index, sample_hash, max(radius) AS radius FROM read_parquet($certificates, hive_partitioning = false)
    WHERE variant = $variant AND seed = $seed AND norm = $norm AND {CERTIFIED}
        AND NOT list_contains($of_others::VARCHAR[], certificate)
    GROUP BY index, sample_hash
"""


@dataclass(frozen=True)
class Example:
    """A pair of images, float32 (C, H, W) in [0, 1], and its result rows.

    `radius` is None unless the sample is certified. `probabilities` are those of the classes `(K,)` for the original
    and for the adversarial image, None if the file has none.
    """

    original: Array
    adversarial: Array
    label: int
    prediction: int
    distance: float
    norm: str
    radius: float | None
    probabilities: tuple[Array, Array] | None


def choose_files(inputs: FigureInputs, attack: str | None) -> list[ExamplesFile]:
    """Choose one file per variant, of the first seed: of `attack`, or of the attack that most variants have.

    Of several such attacks one that measures distances is preferred to one with a grid, then one in L2.

    Raises InputError for an attack without examples.
    """
    files = [item for item in inputs.examples if item.variant in inputs.variants and _has_examples(item.path)]
    names = list(dict.fromkeys(item.attack for item in files))
    if attack is not None and attack not in names:
        raise InputError(f"no examples were saved for the attack '{attack}'", remedy=f"known: {', '.join(names)}")
    if attack is None and names:
        with open_evaluations(inputs.path("evaluations")) as evaluations:
            attacks = {item.name: item for item in evaluations.design.attacks}
        attack = min(names, key=lambda name: _preference(name, attacks, files))
    first_files: dict[str, ExamplesFile] = {}
    for variant in inputs.variants:
        candidates = [item for item in files if item.variant == variant and item.attack == attack]
        if candidates:
            first_files[variant] = min(candidates, key=lambda item: item.seed)
    return list(first_files.values())


def load_examples(inputs: FigureInputs, item: ExamplesFile) -> list[Example]:
    """Load the examples of a file: the first of each true class, then the second of each, and so on.

    Raises InputError for a damaged file.
    """
    try:
        arrays = load_file(item.path)
        originals, adversarials, indices = (arrays[key] for key in ("original", "adversarial", "index"))
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(
            "not a file of adversarial examples", where=str(item.path), remedy="delete it and run again"
        ) from error
    rows, norm, radii = _results(inputs, item)
    examples = [
        Example(
            originals[position],
            adversarials[position],
            rows[index]["label"],
            rows[index]["adversarial_prediction"],
            rows[index]["distance"],
            norm,
            radii.get((index, rows[index]["sample_hash"])),
            _probabilities(arrays, position),
        )
        for position, index in enumerate(indices.tolist())
        if index in rows
    ]
    return _by_class(examples)


def _has_examples(path: Path) -> bool:
    """Return whether a file has images: an attack that fooled no sample leaves none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(file.keys())
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError):
        return True  # damaged, which reading it reports


def _preference(name: str, attacks: Mapping[str, Any], files: Sequence[ExamplesFile]) -> tuple[int, bool, bool]:
    """Return a sort key of attacks: most variants first, then distances before grids, then L2 before other norms."""
    attack = attacks.get(name)
    variants = len({item.variant for item in files if item.attack == name})
    return -variants, attack is None or attack.epsilons is not None, attack is None or attack.norm != "l2"


def _results(inputs: FigureInputs, item: ExamplesFile) -> tuple[dict[int, dict[str, Any]], str, _Radii]:
    """Return the rows of the fooled samples by index, their norm, and the certified radii in this norm by sample."""
    key = {"variant": item.variant, "seed": item.seed}
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        rows = {row["index"]: row for row in evaluations.query(_ROWS, **key, attack=item.attack).to_pylist()}
        norm = next(iter(rows.values()))["norm"] if rows else ""
        if not inputs.has("certificates"):
            return rows, norm, {}
        files = {
            "certificates": str(inputs.path("certificates")),
            "of_others": list(evaluations.design.derived_certificates),
        }
        table = evaluations.query(_RADII, **key, norm=norm, **files)
    return rows, norm, {(row["index"], row["sample_hash"]): row["radius"] for row in table.to_pylist()}


def _probabilities(arrays: Mapping[str, Array], position: int) -> tuple[Array, Array] | None:
    clean, adversarial = (arrays.get(name) for name in _PROBABILITIES)
    return None if clean is None or adversarial is None else (clean[position], adversarial[position])


def _by_class(examples: Sequence[Example]) -> list[Example]:
    """Order the examples: the first of each true class, then the second of each, and so on."""
    counts: dict[int, int] = {}
    rank = []
    for example in examples:
        counts[example.label] = counts.get(example.label, 0) + 1
        rank.append(counts[example.label])
    return [example for _, example in sorted(zip(rank, examples, strict=True), key=lambda pair: pair[0])]
