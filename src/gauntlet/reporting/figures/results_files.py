"""The inputs of figures, collected from the folder of a combined evaluations file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gauntlet.core.parquet import read_columns
from gauntlet.reporting.aggregation import ExperimentDesign, open_evaluations
from gauntlet.reporting.figures.history_labels import labeled_history
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs, HistoryFile, InspectionFile

_TABLES = (
    "summary",
    "certificates",
    "attacks",
    "diagnostics",
    "origins",
    "comparisons",
    "choices",
    "effects",
    "published",
)


def find_inputs(
    evaluations: Path,
    *,
    design: ExperimentDesign | None = None,
    classes: tuple[str, ...] = (),
    current: Collection[Path] | None = None,
) -> FigureInputs:
    """Collect the result files of the planned models and attacks, in the order of the design; files may be missing.

    `design` is that of the evaluations unless it is passed, for figures that are drawn before aggregation. `classes`
    names the labels. `current` lists the files of single models and attacks that may be used, all by default.

    Raises InputError when no design is passed and the evaluations are missing or damaged.
    """
    if design is None:
        with open_evaluations(evaluations) as opened:
            design = opened.design
    folder = evaluations.parent
    tables: dict[str, Any] = {name: folder / f"{name}.parquet" for name in _TABLES}
    return FigureInputs(
        design.variants,
        evaluations=evaluations,
        **{name: path for name, path in tables.items() if path.is_file()},
        histories=tuple(_histories(folder, design, current)),
        examples=tuple(_examples(folder, design, current)),
        inspections=tuple(_inspections(folder, design, current)),
        classes=classes,
        titles=design.titles,
        grids=design.grids,
        attack_titles={attack.name: attack.title for attack in design.attacks if attack.title},
        uncounted=design.uncounted,
    )


def _histories(folder: Path, design: ExperimentDesign, current: Collection[Path] | None) -> Iterator[HistoryFile]:
    """Yield the histories of trained models; those of adopted ones have no epochs."""
    for variant in design.variants:
        for seed in design.seeds_of(variant):
            path = folder / "models" / _model(variant, seed) / "history.parquet"
            if _usable(path, current) and len(read_columns(path, ["epoch"])):
                yield labeled_history(variant, seed, path)


def _examples(folder: Path, design: ExperimentDesign, current: Collection[Path] | None) -> Iterator[ExamplesFile]:
    for variant, seed, attack in design.cells():
        path = folder / "evaluations" / _model(variant, seed) / f"attack={attack}" / "examples.safetensors"
        if _usable(path, current):
            yield ExamplesFile(variant, seed, attack, path)


def _inspections(folder: Path, design: ExperimentDesign, current: Collection[Path] | None) -> Iterator[InspectionFile]:
    """Yield one file per variant, of the first planned seed that was inspected."""
    for variant in design.variants:
        for seed in design.seeds_of(variant):
            path = folder / "inspections" / _model(variant, seed) / "inspection.parquet"
            if _usable(path, current):
                yield InspectionFile(variant, seed, path)
                break


def _model(variant: str, seed: int) -> str:
    return f"variant={variant}/seed={seed}"


def _usable(path: Path, current: Collection[Path] | None) -> bool:
    return path.is_file() and (current is None or path in current)
