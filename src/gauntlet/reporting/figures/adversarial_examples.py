"""Original images, adversarial images and their difference.

Figure of: the deel-lip and deel-torchlip examples on HKR networks.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.example_files import choose_files, load_examples
from gauntlet.reporting.figures.example_triples import DIFFERENCE, PER_ROW, draw_triples
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, plain


@FIGURES.register(
    "adversarial_examples",
    reads=("examples", "evaluations"),
    may_read=("certificates",),
    needs=("attacks",),
    title="Adversarial examples",
    caption="Original, adversarial image and signed difference (blue: darker, red: brighter; in color images, the "
    "channel that changes most). Above each triple: true class → predicted class, distance, and the certified radius "
    "of the model if there is one.",
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
    files = choose_files(inputs, attack)
    drawn = files[:most_variants]
    blocks = {item.variant: load_examples(inputs, item)[: PER_ROW * rows_per_variant] for item in drawn}
    left_out = f"; the first {len(drawn)} of {len(files)} variants" if len(files) > len(drawn) else ""
    notes = [f"attack: {plain(inputs.attack_title(drawn[0].attack))}; {DIFFERENCE}{left_out}"] if drawn else []
    return draw_triples(blocks, inputs, style=style, notes=notes)
