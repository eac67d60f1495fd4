"""The inputs of figures, found beside a results file: the paper again, from results alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.figures.inputs import Examples, Inputs, Inspection
from gauntlet.reporting.figures.training_names import history_of

_KEY = re.compile(r"([a-z]+)=(.*)")


def inputs_beside(evaluations: Path) -> Inputs:
    """Collect what lies in the folder of a combined evaluations file; what is not there is left out.

    Raises InputError when the file is missing or no evaluations file.
    """
    with open_evaluations(evaluations) as opened:
        plan = opened.plan
    folder = evaluations.parent
    names = ("summary", "certificates", "attacks", "diagnostics", "origins")
    tables: dict[str, Any] = {name: folder / f"{name}.parquet" for name in names}
    histories = (
        history_of(keys["variant"], int(keys["seed"]), path)
        for keys, path in _found(folder, "models/*/*/history.parquet")
    )
    examples = (
        Examples(keys["variant"], int(keys["seed"]), keys["attack"], path)
        for keys, path in _found(folder, "evaluations/*/*/*/examples.safetensors")
    )
    inspections = (
        Inspection(keys["variant"], int(keys["seed"]), path)
        for keys, path in _found(folder, "inspections/*/*/inspection.parquet")
    )
    return Inputs(
        plan.variants,
        evaluations=evaluations,
        **{name: path for name, path in tables.items() if path.is_file()},
        histories=tuple(histories),
        examples=tuple(examples),
        inspections=tuple(inspections),
        titles=plan.titles,
        attack_titles={attack.name: attack.title for attack in plan.attacks if attack.title},
    )


def _found(folder: Path, pattern: str) -> Iterator[tuple[dict[str, str], Path]]:
    """List files by pattern with the ids that the names of their folders spell as key=value."""
    for path in sorted(folder.glob(pattern)):
        matches = (_KEY.fullmatch(part) for part in path.relative_to(folder).parts)
        yield {match[1]: match[2] for match in matches if match}, path
