"""The page as one HTML file with numbers, figures and script, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_text
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.catalog import tour_order
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style
from gauntlet.reporting.formatting import percent_text, short_number
from gauntlet.reporting.page.content import read_content
from gauntlet.reporting.page.gallery import MOST_BYTES
from gauntlet.reporting.page.script_data import as_json
from gauntlet.reporting.tables.wording import column_head

TEMPLATES = Path(__file__).parent / "templates"

_PICTURES = 14 << 20
"""Limit of the size of figures and images together; the numbers of 5000 cells take the rest of 20 MB."""
_LEAST_IMAGES = 1 << 20
_SCRIPTS = ("page", "origins", "tables", "curves", "gallery", "start")
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class _EmbeddedFigure:
    """A figure as the page embeds it; `size` is width and height in points, if known."""

    name: str
    title: str
    caption: str
    source: str
    wide: bool
    size: tuple[float, float] | None


def write_report(
    out: Path,
    inputs: FigureInputs,
    *,
    figures: Mapping[str, Path],
    mark: str = "",
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page of an experiment to `out`, atomically; see `render_report`."""
    write_text(out, render_report(inputs, figures=figures, mark=mark, left_out=left_out, notes=notes))


def render_report(
    inputs: FigureInputs,
    *,
    figures: Mapping[str, Path],
    mark: str = "",
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Render the page of an experiment; the text depends on the files alone.

    `inputs` needs `evaluations` and `summary`. `figures` maps names to SVG or PNG files, embedded in the order of the
    tour. `mark` is written into the head. `left_out` are the cells that aggregation left out, as they print. `notes`
    are sentences about the data set and the models for the head of the page. Without its script the page still has all
    tables and figures; the script sorts, filters, draws curves and shows origins.

    Raises InputError when a file is missing, damaged or of another type.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent_text
    environment.filters["number"] = short_number
    environment.filters["column_head"] = column_head
    embedded = [_embed(name, figures[name]) for name in tour_order(figures)]
    template = environment.get_template("page.html.j2")
    script = _script()
    figure_bytes = sum(len(figure.source) for figure in embedded)
    image_bytes = min(MOST_BYTES, max(_LEAST_IMAGES, _PICTURES - figure_bytes))
    content = read_content(inputs, most_image_bytes=image_bytes)
    return (
        template.render(
            content=content,
            figures=embedded,
            mark=mark,
            left_out=left_out,
            notes=notes,
            data=as_json(content.script_data),
            script=script,
            # The page's policy allows no other script to run.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
        + "\n"
    )


def _script() -> str:
    """Return the page's script, its parts joined into one function, so that it defines nothing global."""
    parts = [(TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    return "\n".join(['(() => {\n"use strict";', *parts, "})();\n"])


def _embed(name: str, path: Path) -> _EmbeddedFigure:
    if path.suffix not in _TYPES:
        raise InputError(
            f"a {path.suffix} file cannot be shown in a page", where=str(path), remedy="name an SVG or PNG file"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("the figure cannot be read", where=str(path), remedy="draw it first") from error
    tags = FIGURES.entry(name).tags
    source = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
    size = _size(content)
    # As wide as two columns of a paper, not one.
    wide = size is None or size[0] / 72 > 1.2 * Style().one_column_in
    return _EmbeddedFigure(name, str(tags.get("title", name)), str(tags.get("caption", "")), source, wide, size)


def _size(content: bytes) -> tuple[float, float] | None:
    """Return width and height in points from the head of an SVG file; None for other files."""
    match = re.search(rb'<svg[^>]* width="([0-9.]+)pt" height="([0-9.]+)pt"', content[:4096], re.DOTALL)
    return (float(match[1]), float(match[2])) if match else None
