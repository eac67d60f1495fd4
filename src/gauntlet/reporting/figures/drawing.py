"""From a figure's name to its files: the same bytes for the same tables, each carrying the mark of what made it."""

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
from gauntlet.reporting.figures.style import Style, settings

FORMATS = ("pdf", "svg", "png")
_MARKABLE = re.compile(r"[ !-%'*-;=?-\[\]-~]*")  # printable ASCII less what a format escapes


def draw(
    name: str, inputs: FigureInputs, *, style: Style | None = None, options: Mapping[str, Any] | None = None
) -> Figure:
    """Draw a registered figure. Global matplotlib settings are left as they were.

    Raises InputError for an unknown figure, or one whose inputs are not there.
    """
    entry = FIGURES.entry(name)
    absent = [table for table in entry.tags["reads"] if not inputs.has(table)]
    if absent:
        raise InputError(f"figure '{name}' needs {', '.join(absent)}", remedy="run the stages that make them")
    look = style or Style()
    with settings(look):
        figure: Figure = FIGURES.load(name)(inputs, style=look, **(options or {}))
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
    """Draw a figure and write `folder/name.FORMAT` for each format; returns the files.

    The bytes depend on the tables and the versions of the libraries only: no time, no host, no path. `mark` stands in
    the metadata of each file, uncompressed and as it is, so that searching the raw bytes finds it.

    Raises InputError as `draw` does, ValueError for an unknown format or a mark that a format would have to escape.
    """
    if not _MARKABLE.fullmatch(mark):
        raise ValueError(f"a mark is printable ASCII without <>&()\\, not {mark!r}")
    wanted = tuple(formats)
    if unknown := [suffix for suffix in wanted if suffix not in FORMATS]:
        raise ValueError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    look = style or Style()
    figure = draw(name, inputs, style=look, options=options)
    # A figure of the user's is named after its module too, parted by what is no part of a file's name everywhere.
    files = [folder / f"{name.rpartition(':')[2]}.{suffix}" for suffix in wanted]
    with settings(look):
        for suffix, path in zip(wanted, files, strict=True):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=_metadata(suffix, mark))
            write_bytes(path, content.getvalue())
    return files


def _metadata(suffix: str, mark: str) -> dict[str, str | None]:
    """Give the metadata of a format, without what differs from run to run."""
    noted: dict[str, str | None] = {}
    if mark:
        noted["Keywords" if suffix == "pdf" else "Description"] = mark
    volatile = {"pdf": ("CreationDate",), "svg": ("Date",), "png": ()}[suffix]
    return noted | dict.fromkeys(volatile)
