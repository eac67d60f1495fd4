"""Drawing of figures into files: the same bytes for the same tables, with the mark of the recipe that made them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_bytes
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.shown_variants import choose_variants
from gauntlet.reporting.figures.style import Style, add_note, apply_style

FORMATS = ("pdf", "svg", "png")
_MARK_CHARACTERS = re.compile(r"[ !-%'*-;=?-\[\]-~]*")
"""Printable ASCII without the characters that a format escapes."""


def draw(
    name: str, inputs: FigureInputs, *, style: Style | None = None, options: Mapping[str, Any] | None = None
) -> Figure:
    """Draw a registered figure, or one by import path. Global matplotlib settings are left as they were.

    Raises InputError for an unknown figure, or one whose inputs are missing.
    """
    entry = FIGURES.entry(name)
    missing = [table for table in entry.tags["reads"] if not inputs.has(table)]
    if missing:
        raise InputError(f"figure '{name}' needs {', '.join(missing)}", remedy="run the stages that make them")
    style = style or Style()
    shown, note = choose_variants(inputs, entry.tags)
    with apply_style(style):
        figure: Figure = FIGURES.load(name)(shown, style=style, **(options or {}))
        if note:
            add_note(figure, note, style)
        FigureCanvasAgg(figure)
    return figure


def write_figure(
    name: str,
    inputs: FigureInputs,
    folder: Path,
    *,
    formats: Iterable[str] = FORMATS,
    mark: str = "",
    style: Style | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw a figure and write `folder/name.FORMAT` for each format; return the files.

    The bytes depend only on the tables and the versions of the libraries: no time, host or path. `mark` is written
    into the metadata of each file, uncompressed and unescaped, so that a search of the raw bytes finds it.

    Raises InputError as `draw` does, ValueError for an unknown format or a mark that a format would have to escape.
    """
    if not _MARK_CHARACTERS.fullmatch(mark):
        raise ValueError(f"a mark is printable ASCII without <>&()\\, not {mark!r}")
    suffixes = tuple(formats)
    if unknown := [suffix for suffix in suffixes if suffix not in FORMATS]:
        raise ValueError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    style = style or Style()
    figure = draw(name, inputs, style=style, options=options)
    # The name of a user's figure is MODULE:FUNCTION; some file systems allow no colon.
    files = [folder / f"{name.rpartition(':')[2]}.{suffix}" for suffix in suffixes]
    with apply_style(style):
        _fix_layout(figure, style)
        for suffix, path in zip(suffixes, files, strict=True):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=_metadata(suffix, mark))
            write_bytes(path, content.getvalue())
    return files


def _fix_layout(figure: Figure, style: Style) -> None:
    """Compute the layout of the panels once, and round it: the solver's last digits vary from run to run."""
    if figure.get_layout_engine() is None:
        return
    dpi, figure.dpi = figure.dpi, style.raster_dpi
    figure.draw_without_rendering()
    figure.dpi = dpi
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(value, 6) for value in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
    for text in (figure._suptitle, figure._supxlabel, figure._supylabel):  # type: ignore[attr-defined]
        if text is not None:
            x, y = text.get_position()
            text.set_position((round(x, 6), round(y, 6)))


def _metadata(suffix: str, mark: str) -> dict[str, str | None]:
    """Return the metadata of a format, without the entries that differ from run to run."""
    entries: dict[str, str | None] = {}
    if mark:
        entries["Keywords" if suffix == "pdf" else "Description"] = mark
    volatile = {"pdf": ("CreationDate",), "svg": ("Date",), "png": ()}[suffix]
    return entries | dict.fromkeys(volatile)
