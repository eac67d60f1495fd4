"""One correctly classified image per class, its adversarial image and their difference, of certified models.

Figure of: the deel-lip and deel-torchlip examples on HKR networks.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.figures.example_files import Example, choose_files, load_examples
from gauntlet.reporting.figures.example_triples import DIFFERENCE, PER_ROW, draw_triples, rows_on_a_page
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, plain


@FIGURES.register(
    "class_examples",
    reads=("examples", "evaluations", "certificates"),
    needs=("attacks", "certificates"),
    title="One image per class",
    caption="For variants whose models are certified: of every class the first correctly classified image that was "
    "fooled and kept, its adversarial image and the signed difference (blue: darker, red: brighter; in color images, "
    "the channel that changes most). Above each triple: true class → predicted class, distance and certified radius.",
)
def class_examples(
    inputs: FigureInputs,
    *,
    style: Style,
    attack: str | None = None,
    most_classes: PositiveInt = 21,
    most_variants: PositiveInt = 2,
) -> Figure:
    """Draw one triple per class, in the order of the classes, of the variants that have a certificate of the model.

    Variants are drawn while they fit on a page. Without such a certificate the first variant is drawn. Attack and seed
    are chosen as in `adversarial_examples`, which it raises as.
    """
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        certified = {
            variant
            for item in evaluations.design.certificates
            if item.certifies == "model"
            for variant in item.variants
        }
    files = choose_files(inputs, attack)
    files = [item for item in files if item.variant in certified] or files[:1]
    blocks: dict[str, list[Example]] = {}
    rows = found = 0
    for item in files[:most_variants]:
        by_class: dict[int, Example] = {}
        for example in load_examples(inputs, item):
            by_class.setdefault(example.label, example)
        examples = [by_class[label] for label in sorted(by_class)][:most_classes]
        found = max(found, len(by_class))
        rows += -(-len(examples) // PER_ROW)
        if blocks and rows > rows_on_a_page():
            break
        blocks[item.variant] = examples
    left_out = f"; the first {len(blocks)} of {len(files)} variants" if len(files) > len(blocks) else ""
    left_out += f"; the first {most_classes} of {found} classes with a kept example" if found > most_classes else ""
    notes = [f"attack: {plain(inputs.attack_title(files[0].attack))}; {DIFFERENCE}{left_out}"] if files else []
    return draw_triples(blocks, inputs, style=style, notes=notes)
