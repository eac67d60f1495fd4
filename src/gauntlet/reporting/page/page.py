"""From numbers and figures to one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_text
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.catalog import tour_order
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style
from gauntlet.reporting.page.content import read_content
from gauntlet.reporting.page.embedding import as_json
from gauntlet.reporting.page.gallery import MOST_BYTES

TEMPLATES = Path(__file__).parent / "templates"

_PICTURES = 14 << 20
"""What figures and images may take together; the numbers of 5000 cells take the rest of 20 MB."""
_LEAST_IMAGES = 1 << 20
_SCRIPTS = ("page", "provenance", "tables", "curves", "gallery", "start")
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class _Picture:
    """A figure as the page embeds it."""

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
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write the report of an experiment to `out`, atomically; see `render_report`."""
    write_text(out, render_report(inputs, figures=figures, mark=mark, failures=failures))


def render_report(
    inputs: FigureInputs,
    *,
    figures: Mapping[str, Path],
    mark: str = "",
    failures: Mapping[str, str] | None = None,
) -> str:
    """Render the page of an experiment; the text depends on the files alone.

    `inputs` needs `evaluations` and `summary`. `figures` maps names to SVG or PNG files, embedded in the order of the
    tour. `mark` is written into the head. `failures` maps failed cells to the last lines of their logs. Without its
    script the page still has all tables and figures; the script sorts, filters, draws curves and shows origins.

    Raises InputError when a file is missing, damaged or of another type.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f}"
    environment.filters["number"] = _number
    pictures = [_picture(name, figures[name]) for name in tour_order(figures)]
    template = environment.get_template("page.html.j2")
    script = _script()
    drawn = sum(len(picture.source) for picture in pictures)
    content = read_content(inputs, most_image_bytes=min(MOST_BYTES, max(_LEAST_IMAGES, _PICTURES - drawn)))
    return (
        template.render(
            content=content,
            pictures=pictures,
            mark=mark,
            failures=dict(failures or {}),
            data=as_json(content.embedded),
            script=script,
            # The policy of the page names the one script that may run.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
        + "\n"
    )


def _number(value: float | None) -> str:
    """Write a number with three digits, large ones without an exponent."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _script() -> str:
    """Join the parts of the page's script into one function, so that nothing of it is global."""
    parts = [(TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    return "\n".join(['(() => {\n"use strict";', *parts, "})();\n"])


def _picture(name: str, path: Path) -> _Picture:
    if path.suffix not in _TYPES:
        raise InputError(f"a {path.suffix} file cannot be shown in a page", where=str(path), remedy="give SVG or PNG")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("the figure cannot be read", where=str(path), remedy="draw it first") from error
    tags = FIGURES.entry(name).tags
    source = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
    size = _size(content)
    # Of two columns rather than one.
    wide = size is None or size[0] / 72 > 1.2 * Style().one_column_in
    return _Picture(name, str(tags.get("title", name)), str(tags.get("caption", "")), source, wide, size)


def _size(content: bytes) -> tuple[float, float] | None:
    """Give width and height in points, which an SVG file states first; None for other files."""
    found = re.search(rb'<svg[^>]* width="([0-9.]+)pt" height="([0-9.]+)pt"', content[:4096], re.DOTALL)
    return (float(found[1]), float(found[2])) if found else None
