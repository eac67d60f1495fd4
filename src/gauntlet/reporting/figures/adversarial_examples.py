"""Originals, adversarial images and what was changed (the figure of sources B and D)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from gauntlet.core.errors import InputError
from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, plain

_ACROSS = 3
_LABEL_IN = 0.25
_IMAGE_IN = 0.7
_GAP_IN = 0.04
_TRIPLE_IN = 2.27
_LINE_IN = 0.92
_MARGIN_IN = 0.28

_ROWS = """
    SELECT index, label, adversarial_prediction, norm, distance FROM evaluations
    WHERE variant = $variant AND seed = $seed AND attack = $attack AND status = 'adversarial'
"""
_RADII = """
    SELECT index, max(radius) AS radius FROM read_parquet($certificates, hive_partitioning = false)
    WHERE variant = $variant AND seed = $seed AND norm = $norm AND status = 'certified'
        AND NOT list_contains($of_others::VARCHAR[], certificate)
    GROUP BY index
"""


@dataclass(frozen=True)
class _Example:
    """One image pair, float32 (C, H, W) in [0, 1], and what stands above it; `radius` only where it is certified."""

    original: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    label: int
    prediction: int
    distance: float
    norm: str
    radius: float | None


@FIGURES.register(
    "adversarial_examples",
    reads=("examples", "evaluations"),
    may_read=("certificates",),
    needs=("attacks",),
    title="Adversarial examples",
    caption="Original, adversarial image and signed difference (blue: darker, red: brighter). Above each: true class → "
    "class given, distance, and the model's certified radius where there is one.",
)
def adversarial_examples(
    inputs: FigureInputs,
    *,
    style: Style,
    attack: str | None = None,
    rows_per_variant: PositiveInt = 2,
    most_variants: PositiveInt = 10,
) -> Figure:
    """Draw triples of original, adversarial and signed difference: three beside each other, some rows per variant.

    One attack is shown: `attack`, or the one that most variants have, preferably one that measures L2 distances; of
    each variant the first seed, and of many variants the first `most_variants`.
    Of each true class the first fooled sample is taken before any class comes twice. Raises InputError for an attack
    that no example was kept of, or for a damaged file.
    """
    chosen = _choose(inputs, attack)
    shown = chosen[:most_variants]
    blocks = {item.variant: _load(inputs, item, _ACROSS * rows_per_variant) for item in shown}
    rows = {variant: -(-len(examples) // _ACROSS) for variant, examples in blocks.items() if examples}
    total = max(1, sum(rows.values()))
    figure = Figure(figsize=(style.two_columns_in, style.scale * (_MARGIN_IN + total * _LINE_IN)))
    top = 0
    for variant, lines in rows.items():
        for number, example in enumerate(blocks[variant]):
            line, triple = top + number // _ACROSS, number % _ACROSS
            panels = [_panel(figure, line, triple, column, style) for column in range(3)]
            _draw(panels, example, inputs, style)
        middle = _MARGIN_IN + total * _LINE_IN - _LINE_IN * (top + lines / 2) - (_LINE_IN - _IMAGE_IN) / 2
        figure.text(
            *_share(figure, 0.11, middle, style), plain(inputs.title(variant)), rotation=90,
            ha="center", va="center", weight="bold",
        )  # fmt: skip
        top += lines
    left_out = f"; the first {len(shown)} of {len(chosen)} variants" if len(chosen) > len(shown) else ""
    if shown:
        name = plain(inputs.attack_title(shown[0].attack))
        text = f"attack: {name}; each triple: original, adversarial, difference (blue darker, red brighter; own scale)"
        figure.text(*_share(figure, 0.035, 0.06, style), text + left_out, size=style.small_pt, color="#444444")
    return figure


def _share(figure: Figure, x_in: float, y_in: float, style: Style) -> tuple[float, float]:
    """Turn inches of a paper into shares of a figure."""
    width, height = figure.get_size_inches() / style.scale
    return x_in / width, y_in / height


def _panel(figure: Figure, line: int, triple: int, column: int, style: Style) -> Axes:
    """Make the axes of one image, placed in inches from the top left: nothing here needs a layout engine."""
    width, height = figure.get_size_inches() / style.scale
    left = _LABEL_IN + triple * _TRIPLE_IN + column * (_IMAGE_IN + _GAP_IN)
    bottom = height - (line + 1) * _LINE_IN
    axes = figure.add_axes((left / width, bottom / height, _IMAGE_IN / width, _IMAGE_IN / height))
    axes.set_axis_off()
    return axes


def _choose(inputs: FigureInputs, attack: str | None) -> list[ExamplesFile]:
    """Pick one file per variant: one attack, the first seed."""
    kept = [item for item in inputs.examples if item.variant in inputs.variants and _holds_any(item.path)]
    names = list(dict.fromkeys(item.attack for item in kept))
    if attack is not None and attack not in names:
        raise InputError(f"no examples were kept of the attack '{attack}'", remedy=f"known: {', '.join(names)}")
    if attack is None and names:
        with open_evaluations(inputs.path("evaluations")) as evaluations:
            planned = {item.name: item for item in evaluations.design.attacks}
        attack = min(names, key=lambda name: _preference(name, planned, kept))
    of_variant: dict[str, ExamplesFile] = {}
    for variant in inputs.variants:
        mine = [item for item in kept if item.variant == variant and item.attack == attack]
        if mine:
            of_variant[variant] = min(mine, key=lambda item: item.seed)
    return list(of_variant.values())


def _holds_any(path: Path) -> bool:
    """Tell whether any example was kept: an attack that fooled nothing leaves a file without tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(file.keys())
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError):
        return True  # damaged: reading it says so


def _preference(name: str, planned: dict[str, Any], kept: list[ExamplesFile]) -> tuple[int, bool, bool]:
    """Order attacks: most variants first, then measured distances before grids, then L2 before other norms."""
    item = planned.get(name)
    variants = len({example.variant for example in kept if example.attack == name})
    return -variants, item is None or item.epsilons is not None, item is None or item.norm != "l2"


def _load(inputs: FigureInputs, item: ExamplesFile, most: int) -> list[_Example]:
    try:
        arrays = load_file(item.path)
        originals, adversarials, indices = (arrays[key] for key in ("original", "adversarial", "index"))
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(
            "these are no adversarial examples", where=str(item.path), remedy="delete it and run again"
        ) from error
    key = {"variant": item.variant, "seed": item.seed}
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        found = {row["index"]: row for row in evaluations.query(_ROWS, **key, attack=item.attack).to_pylist()}
        norm = next(iter(found.values()))["norm"] if found else ""
        radii: dict[int, float] = {}
        if inputs.has("certificates"):
            named = {"certificates": str(inputs.path("certificates")), "of_others": list(evaluations.design.of_others)}
            table = evaluations.query(_RADII, **key, norm=norm, **named)
            radii = dict(zip(table["index"].to_pylist(), table["radius"].to_pylist(), strict=True))
    examples = [
        _Example(
            original,
            adversarial,
            found[index]["label"],
            found[index]["adversarial_prediction"],
            found[index]["distance"],
            norm,
            radii.get(index),
        )
        for original, adversarial, index in zip(originals, adversarials, indices.tolist(), strict=True)
        if index in found
    ]
    return _varied(examples)[:most]


def _varied(examples: list[_Example]) -> list[_Example]:
    """Put the first sample of each true class first, keeping the order otherwise."""
    seen: dict[int, int] = {}
    rank = []
    for example in examples:
        seen[example.label] = seen.get(example.label, 0) + 1
        rank.append(seen[example.label])
    return [example for _, example in sorted(zip(rank, examples, strict=True), key=lambda pair: pair[0])]


def _draw(panels: list[Axes], example: _Example, inputs: FigureInputs, style: Style) -> None:
    difference = (example.adversarial - example.original).mean(0)
    scale = float(np.abs(difference).max()) or 1.0
    for axes, image in zip(panels[:2], (example.original, example.adversarial), strict=True):
        shown = image[0] if len(image) == 1 else image.transpose(1, 2, 0)  # (H, W) or (H, W, C)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panels[2].imshow(difference, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
    classes = f"{plain(inputs.class_name(example.label))} → {plain(inputs.class_name(example.prediction))}"
    distance = f"{norm_label(example.norm)} {example.distance:.3g}"
    certified = f"  (cert. {_rounded_down(example.radius)})" if example.radius is not None else ""
    panels[0].set_title(f"{classes}, {distance}{certified}", fontsize=style.small_pt, loc="left", pad=2)


def _rounded_down(radius: float) -> str:
    """Write a certified radius with three decimals; a certificate may shrink in print, never grow."""
    return f"{np.floor(radius * 1000) / 1000:.3f}"
