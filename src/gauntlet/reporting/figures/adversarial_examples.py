"""Original images, adversarial images and their difference.

Figure of: the deel-lip and deel-torchlip examples on HKR networks.
"""

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
from gauntlet.reporting.aggregation.definitions import CERTIFIED
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, plain

_TRIPLES_PER_ROW = 3
_LABEL_IN = 0.25
_IMAGE_IN = 0.7
_GAP_IN = 0.04
_TRIPLE_IN = 2.27
_ROW_IN = 0.92
_MARGIN_IN = 0.28

_ROWS = """
    SELECT index, label, adversarial_prediction, norm, distance FROM evaluations
    WHERE variant = $variant AND seed = $seed AND attack = $attack AND fooled
"""
_RADII = f"""
    SELECT index, max(radius) AS radius FROM read_parquet($certificates, hive_partitioning = false)
    WHERE variant = $variant AND seed = $seed AND norm = $norm AND {CERTIFIED}
        AND NOT list_contains($of_others::VARCHAR[], certificate)
    GROUP BY index
"""


@dataclass(frozen=True)
class _Example:
    """A pair of images, float32 (C, H, W) in [0, 1], and its result rows; `radius` is None unless it is certified."""

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
    caption="Original, adversarial image and signed difference (blue: darker, red: brighter). Above each triple: true "
    "class → predicted class, distance, and the certified radius of the model if there is one.",
)
def adversarial_examples(
    inputs: FigureInputs,
    *,
    style: Style,
    attack: str | None = None,
    rows_per_variant: PositiveInt = 2,
    most_variants: PositiveInt = 10,
) -> Figure:
    """Draw triples of original, adversarial image and signed difference, three per row, some rows per variant.

    The images are of one attack: `attack`, or the one that most variants have, preferably one that measures L2
    distances; of the first seed of each variant, and of the first `most_variants` variants. The first fooled sample of
    each true class comes before the second of any class.

    Raises InputError for an attack without saved examples, or for a damaged file.
    """
    files = _choose(inputs, attack)
    drawn = files[:most_variants]
    blocks = {item.variant: _load(inputs, item, _TRIPLES_PER_ROW * rows_per_variant) for item in drawn}
    rows = {variant: -(-len(examples) // _TRIPLES_PER_ROW) for variant, examples in blocks.items() if examples}
    total = max(1, sum(rows.values()))
    figure = Figure(figsize=(style.two_columns_in, style.scale * (_MARGIN_IN + total * _ROW_IN)))
    top = 0
    for variant, row_count in rows.items():
        for number, example in enumerate(blocks[variant]):
            row, triple = top + number // _TRIPLES_PER_ROW, number % _TRIPLES_PER_ROW
            panels = [_panel(figure, row, triple, column, style) for column in range(3)]
            _draw(panels, example, inputs, style)
        middle = _MARGIN_IN + total * _ROW_IN - _ROW_IN * (top + row_count / 2) - (_ROW_IN - _IMAGE_IN) / 2
        figure.text(
            *_fraction(figure, 0.11, middle, style), plain(inputs.title(variant)), rotation=90,
            ha="center", va="center", weight="bold",
        )  # fmt: skip
        top += row_count
    left_out = f"; the first {len(drawn)} of {len(files)} variants" if len(files) > len(drawn) else ""
    if drawn:
        name = plain(inputs.attack_title(drawn[0].attack))
        text = f"attack: {name}; each triple: original, adversarial, difference (blue darker, red brighter; own scale)"
        figure.text(*_fraction(figure, 0.035, 0.06, style), text + left_out, size=style.small_pt, color="#444444")
    return figure


def _fraction(figure: Figure, x_in: float, y_in: float, style: Style) -> tuple[float, float]:
    """Convert inches on paper into fractions of the figure."""
    width, height = figure.get_size_inches() / style.scale
    return x_in / width, y_in / height


def _panel(figure: Figure, row: int, triple: int, column: int, style: Style) -> Axes:
    """Add the axes of one image, at a position in inches from the top left."""
    width, height = figure.get_size_inches() / style.scale
    left = _LABEL_IN + triple * _TRIPLE_IN + column * (_IMAGE_IN + _GAP_IN)
    bottom = height - (row + 1) * _ROW_IN
    axes = figure.add_axes((left / width, bottom / height, _IMAGE_IN / width, _IMAGE_IN / height))
    axes.set_axis_off()
    return axes


def _choose(inputs: FigureInputs, attack: str | None) -> list[ExamplesFile]:
    """Choose one file per variant: one attack, the first seed."""
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


def _has_examples(path: Path) -> bool:
    """Return whether a file has images: an attack that fooled no sample leaves none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(file.keys())
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError):
        return True  # damaged, which reading it reports


def _preference(name: str, attacks: dict[str, Any], files: list[ExamplesFile]) -> tuple[int, bool, bool]:
    """Return a sort key of attacks: most variants first, then distances before grids, then L2 before other norms."""
    attack = attacks.get(name)
    variants = len({item.variant for item in files if item.attack == name})
    return -variants, attack is None or attack.epsilons is not None, attack is None or attack.norm != "l2"


def _load(inputs: FigureInputs, item: ExamplesFile, most: int) -> list[_Example]:
    try:
        arrays = load_file(item.path)
        originals, adversarials, indices = (arrays[key] for key in ("original", "adversarial", "index"))
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(
            "not a file of adversarial examples", where=str(item.path), remedy="delete it and run again"
        ) from error
    key = {"variant": item.variant, "seed": item.seed}
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        rows = {row["index"]: row for row in evaluations.query(_ROWS, **key, attack=item.attack).to_pylist()}
        norm = next(iter(rows.values()))["norm"] if rows else ""
        radii: dict[int, float] = {}
        if inputs.has("certificates"):
            files = {
                "certificates": str(inputs.path("certificates")),
                "of_others": list(evaluations.design.derived_certificates),
            }
            table = evaluations.query(_RADII, **key, norm=norm, **files)
            radii = dict(zip(table["index"].to_pylist(), table["radius"].to_pylist(), strict=True))
    examples = [
        _Example(
            original,
            adversarial,
            rows[index]["label"],
            rows[index]["adversarial_prediction"],
            rows[index]["distance"],
            norm,
            radii.get(index),
        )
        for original, adversarial, index in zip(originals, adversarials, indices.tolist(), strict=True)
        if index in rows
    ]
    return _by_class(examples)[:most]


def _by_class(examples: list[_Example]) -> list[_Example]:
    """Order the examples: the first of each true class, then the second of each, and so on."""
    counts: dict[int, int] = {}
    rank = []
    for example in examples:
        counts[example.label] = counts.get(example.label, 0) + 1
        rank.append(counts[example.label])
    return [example for _, example in sorted(zip(rank, examples, strict=True), key=lambda pair: pair[0])]


def _draw(panels: list[Axes], example: _Example, inputs: FigureInputs, style: Style) -> None:
    difference = (example.adversarial - example.original).mean(0)
    scale = float(np.abs(difference).max()) or 1.0
    for axes, image in zip(panels[:2], (example.original, example.adversarial), strict=True):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)  # (H, W) or (H, W, C)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panels[2].imshow(difference, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
    classes = f"{plain(inputs.class_name(example.label))} → {plain(inputs.class_name(example.prediction))}"
    distance = f"{norm_label(example.norm)} {example.distance:.3g}"
    certified = f"  (cert. {_rounded_down(example.radius)})" if example.radius is not None else ""
    panels[0].set_title(f"{classes}, {distance}{certified}", fontsize=style.small_pt, loc="left", pad=2)


def _rounded_down(radius: float) -> str:
    """Return a certified radius with three decimals; a certificate may shrink in print, but not grow."""
    return f"{np.floor(radius * 1000) / 1000:.3f}"
