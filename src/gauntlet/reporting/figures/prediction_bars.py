"""Adversarial images with bars of the predictions for the original and for the adversarial image.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.example_files import Example, choose_files, load_examples
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_labels, join_titles, variant_labels
from gauntlet.reporting.figures.style import PALETTE, Style, hide_unused, legend_above, norm_label, note_below, plain
from gauntlet.reporting.formatting import short_number
from gauntlet.reporting.pictures import channels_note, picture

_CLASSES = 5
_NAME_IN = 0.55


@FIGURES.register(
    "prediction_bars",
    reads=("examples", "evaluations"),
    needs=("attacks",),
    title="Predictions for adversarial images",
    caption="Original and adversarial image, and the probabilities that the model gives its five most probable "
    "classes: gray for the original, orange and hatched for the adversarial image. Above: the distance. "
    "Sigmoid outputs need not sum to 1.",
)
def prediction_bars(
    inputs: FigureInputs,
    *,
    style: Style,
    attack: str | None = None,
    images_per_variant: PositiveInt = 3,
    most_variants: PositiveInt = 8,
) -> Figure:
    """Draw a row per variant: original, adversarial image, and bars of class probabilities, for three samples.

    Attack, seed and samples are chosen as in `adversarial_examples`, which it raises as.
    """
    files = choose_files(inputs, attack)
    blocks = {item.variant: load_examples(inputs, item)[:images_per_variant] for item in files}
    without = [name for name, examples in blocks.items() if examples and examples[0].probabilities is None]
    blocks = {name: examples for name, examples in blocks.items() if examples and name not in without}
    drawn = dict(list(blocks.items())[:most_variants])
    rows, count = max(1, len(drawn)), images_per_variant
    figure, panels = style.figure(rows, 3 * count, height_in=0.5 + 1.0 * rows, width_ratios=[0.8, 0.8, 1] * count)
    hide_unused(list(panels.flat))
    # Bold letters are wider than those that are measured.
    titles = variant_labels(inputs, list(drawn), width_in=0.8 * style.scale, size_pt=style.font_pt, lines=2)
    for title, examples, row in zip(titles, drawn.values(), panels, strict=False):
        row[0].text(
            -0.08,
            0.5,
            title,
            rotation=90,
            linespacing=1.1,
            multialignment="center",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            weight="bold",
        )
        for number, example in enumerate(examples):
            _draw(row[3 * number : 3 * number + 3], example, inputs, style)
    if drawn:
        handles = dict(zip(("original", "adversarial"), _bars(panels), strict=False))
        legend_above(figure, handles, style, wide=True)
    shown = [example for examples in drawn.values() for example in examples]
    note_below(
        figure,
        [
            f"attack: {plain(inputs.attack_title(files[0].attack))}" if files else "",
            f"the first {len(drawn)} of {len(blocks)} variants" if len(drawn) < len(blocks) else "",
            f"stored without probabilities: {plain(join_titles(inputs.titles_of(without)))}" if without else "",
            *dict.fromkeys(channels_note(len(example.original)) for example in shown),
        ],
        style,
        wide=True,
    )
    return figure


def _draw(panels: Sequence[Axes], example: Example, inputs: FigureInputs, style: Style) -> None:
    if example.probabilities is None:
        return
    *images, bars = panels
    for axes, image in zip(images, (example.original, example.adversarial), strict=True):
        axes.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    images[0].set_title(
        f"{norm_label(example.norm)} {short_number(example.distance)}", fontsize=style.small_pt, loc="left", pad=2
    )
    clean, adversarial = example.probabilities
    highest = np.maximum(clean, adversarial)
    chosen = sorted(np.argsort(-highest, kind="stable")[:_CLASSES].tolist())
    bars.set_axis_on()
    where = np.arange(len(chosen))
    bars.barh(where - 0.2, clean[chosen], 0.38, color="#8a8a8a", label="original")
    bars.barh(
        where + 0.2,
        adversarial[chosen],
        0.38,
        color=PALETTE[1],
        hatch="////",
        edgecolor="white",
        linewidth=0,
        label="adversarial",
    )
    names = class_labels(inputs, chosen, width_in=_NAME_IN * style.scale, size_pt=style.small_pt)
    bars.set_yticks(where, names)
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_xticks([0, 1], ["0", "1"])
    bars.tick_params(axis="y", length=0, pad=1)
    bars.grid(False)


def _bars(panels: np.ndarray) -> list[object]:
    for axes in panels.flat:
        if axes.containers:
            return list(axes.containers)
    return []
