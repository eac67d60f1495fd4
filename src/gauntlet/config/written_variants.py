"""Variants of grids as they would be written by hand, for `gauntlet check --show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gauntlet.config.grids.axes import Levels
from gauntlet.config.schema import Config
from gauntlet.config.sources import Source
from gauntlet.core.errors import InputError, nearest


def written_variants(config: Config, files: Sequence[Path], name: str) -> Iterator[str]:
    """Yield a variant of each experiment that has it: a comment with experiment and levels, and its YAML.

    `files` are those that `config` was loaded from. Raises InputError if no experiment has the variant.
    """
    shown = list(Source(files).variants(name))
    if not shown:
        known = {variant for experiment in config.experiments.values() for variant in experiment.variants}
        raise InputError(f"no variant '{name}' in this configuration", remedy=nearest(name, known))
    for experiment, content in shown:
        levels = config.experiments[experiment].levels_of(name)
        yield f"# experiments.{experiment}.variants{f': {_levels_text(levels)}' if levels else ''}"
        yield _yaml({name: content})


def _levels_text(levels: Levels) -> str:
    return ", ".join(f"{axis} {level.label or level.title}" for axis, level in levels.items())


def _yaml(content: Any) -> str:
    yaml = YAML(typ="safe", pure=True)
    # Mappings and lists of scalars are written in one line.
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue().rstrip("\n")
