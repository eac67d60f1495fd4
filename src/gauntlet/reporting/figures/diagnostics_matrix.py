"""Every check of gradient masking on every variant, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below, plain
from gauntlet.robustness.diagnostics.checks import CHECKS, worst_verdict

_ROW_IN = 0.19
_COLUMN_IN = 0.34


@dataclass(frozen=True)
class _Look:
    """A verdict's field: the mark says it without the colour, and the colours differ in lightness too."""

    mark: str
    face: str
    ink: str
    word: str


_LOOKS = {
    "pass": _Look("✓", "#dbe9f4", "#1f4e79", "passes"),
    "warn": _Look("!", "#e9a94b", "#000000", "warns"),
    "fail": _Look("✗", "#8c2d04", "#ffffff", "fails"),
    "not_applicable": _Look("·", "#ffffff", "#777777", "does not apply"),
}


@FIGURES.register(
    "diagnostics_matrix",
    reads=("diagnostics",),
    needs=("attacks",),
    title="Checks of gradient masking",
    caption="The verdict of every check on every variant, the gravest over its seeds. Where a check fails, numbers of "
    "the norm are upper bounds only. Checks that apply to no variant are counted below.",
)
def diagnostics_matrix(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one row per check and norm, and one column per variant, marks as well as colours."""
    rows = read_table(inputs.path("diagnostics")).to_pylist()
    verdicts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        verdicts.setdefault((row["check"], row["norm"] or ""), {}).setdefault(row["variant"], []).append(row["verdict"])
    judged = {
        key: {variant: str(worst_verdict(found)) for variant, found in of.items()}
        for key, of in sorted(verdicts.items(), key=lambda one: list(CHECKS).index(one[0][0]))
    }
    applied = {key: of for key, of in judged.items() if set(of.values()) != {"not_applicable"}}
    names = [f"{check.replace('_', ' ')}{f', {norm_label(norm)}' if norm else ''}" for check, norm in applied]
    label_in = (
        style.letter_em * style.small_pt / 72 * max((len(name.partition("$")[0]) + 2 for name in names), default=0)
    )
    titles = inputs.titles_of()
    wide = label_in + _COLUMN_IN * len(titles) > 0.95 * style.one_column_in
    head_in = style.letter_em * style.small_pt / 72 / style.scale * max(map(len, titles))
    figure, panels = style.figure(1, 1, height_in=0.5 + _ROW_IN * max(1, len(applied)) + head_in, wide=wide)
    axes: Axes = panels[0][0]
    for place, of in enumerate(applied.values()):
        for column, variant in enumerate(inputs.variants):
            _field(axes, column, place, _LOOKS[of.get(variant, "not_applicable")], style)
    _frame(axes, names, titles)
    checks = {check for check, _ in judged}
    idle = checks - {check for check, _ in applied}
    told = {verdict for of in applied.values() for verdict in of.values()}
    legend = "   ".join(f"{look.mark} {look.word}" for verdict, look in _LOOKS.items() if verdict in told)
    unused = [f"{len(idle)} of {len(checks)} checks apply to no variant"] if idle else []
    note_below(figure, [legend, *unused], style, wide=wide)
    return figure


def _field(axes: Axes, column: int, place: int, look: _Look, style: Style) -> None:
    axes.add_patch(Rectangle((column - 0.5, place - 0.5), 1, 1, facecolor=look.face, edgecolor="white", linewidth=1))
    axes.text(column, place, look.mark, ha="center", va="center", color=look.ink, size=style.font_pt, weight="bold")


def _frame(axes: Axes, names: Sequence[str], titles: Sequence[str]) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, len(titles) - 0.5)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    # Upright: a slanted name over the last column would reach beyond the edge.
    axes.set_xticks(range(len(titles)), [plain(title) for title in titles], rotation=90)
