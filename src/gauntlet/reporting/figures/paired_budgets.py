"""Smallest ε that fools each sample under one variant and under the next: differences on the same samples."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import Evaluations, count_missing, open_evaluations
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import variant_labels
from gauntlet.reporting.figures.paired_plots import draw_differences, draw_lines
from gauntlet.reporting.figures.paired_samples import PairedSamples, distinct_budgets
from gauntlet.reporting.figures.style import Style, note_below
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.reporting.footnotes import missing_note

_MOST_LEVELS = 20
"""Number of distinct budgets up to which lines between them are readable."""
_TITLE_IN = 1.1
"""Length in inches that titles of variants are cut to."""
_LINES_OF_A_ROW = 4.5
"""Height of a row of differences, in lines of the four that describe it."""

# A sample that either variant lacks, such as one of a missing cell, is not in a pair.
_PAIRS = """
    SELECT a.fooled_at AS first_epsilon, b.fooled_at AS second_epsilon, count(*) AS samples
    FROM worst_cases AS a JOIN worst_cases AS b USING (norm, seed, index)
    WHERE norm = $norm AND a.variant = $first AND b.variant = $second GROUP BY ALL ORDER BY ALL
"""


@FIGURES.register(
    "paired_budgets",
    reads=("evaluations",),
    needs=("attacks", "several_variants"),
    title="Smallest ε that fools each sample, paired between variants",
    caption="The smallest ε at which any attack of the norm fooled a sample, under one variant and under the next. "
    "Where attacks have few budgets, lines join the same samples, as thick as their share: blue to a larger ε, dashed "
    "orange to a smaller one; samples that are wrong without an attack or ended in an error are at the foot. Where "
    "attacks measure distances, histograms of the differences, with zero (dashed) and the median (black). + and −: "
    "shares of samples with a larger or a smaller ε under the next variant; never fooled counts as larger than any.",
)
def paired_budgets(inputs: FigureInputs, *, style: Style, most_variants: int = 8) -> Figure:
    """Draw one panel per norm, with a line plot for grids of budgets and densities of differences for distances.

    Samples of all seeds are pooled, each paired with itself under the same seed of the next variant.
    """
    variants = list(inputs.variants[:most_variants])
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        design = evaluations.design
        norms = [norm for norm in design.norms if design.counted_in(norm)]
        pairs = {norm: [_pairs(evaluations, norm, *two) for two in itertools.pairwise(variants)] for norm in norms}
        counted = [attack.name for norm in norms for attack in design.counted_in(norm)]
        missing = count_missing(evaluations, variants, counted)
    wide = len(norms) > 1 or len(variants) > 4
    columns = max(1, min(len(norms), 2 if len(variants) <= 5 else 1)) if wide else 1
    rows = -(-max(1, len(norms)) // columns)
    titles = variant_labels(inputs, variants, width_in=_TITLE_IN * style.scale, size_pt=style.small_pt)
    needs_rows = any(len(distinct_budgets(pairs[norm])) > _MOST_LEVELS for norm in norms)
    longest_in = max(text_width_in(title, style.small_pt) for title in titles) / style.scale
    row_in = _LINES_OF_A_ROW * 1.2 * style.small_pt / 72 / style.scale
    panel_in = max(2.75, 0.5 + 0.6 * longest_in + row_in * len(pairs[norms[0]])) if needs_rows else 2.75
    figure, panels = style.figure(rows, columns, height_in=0.3 + panel_in * rows, wide=wide)
    width_in = 0.8 * (style.two_columns_in if wide else style.one_column_in) / columns
    notes = ["+, −: samples with larger, smaller ε under the next variant"]
    for axes in panels.flat:
        axes.set_axis_off()
    for norm, axes in zip(norms, panels.flat, strict=False):
        axes.set_axis_on()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        budgets = distinct_budgets(pairs[norm])
        if len(budgets) <= _MOST_LEVELS:
            draw_lines(axes, norm, pairs[norm], budgets, titles, style, width_in=width_in)
        else:
            draw_differences(axes, norm, pairs[norm], titles, style)
            notes.append("black: median")
    notes += [missing_note(missing, "ε may be too large"), *inputs.exclusion_notes()]
    if len(variants) < len(inputs.variants):
        notes.append(f"the first {len(variants)} of {len(inputs.variants)} variants")
    note_below(figure, list(dict.fromkeys(notes)), style, wide=wide)
    return figure


def _pairs(evaluations: Evaluations, norm: str, first: str, second: str) -> PairedSamples:
    table = evaluations.query(_PAIRS, norm=norm, first=first, second=second).to_pydict()
    return PairedSamples(
        *(np.asarray(table[column], np.float64) for column in ("first_epsilon", "second_epsilon", "samples"))
    )
