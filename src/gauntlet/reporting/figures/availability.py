"""The figures that can be drawn from the result files of an experiment."""

from __future__ import annotations

from gauntlet.core.parquet import read_columns
from gauntlet.reporting.aggregation import ExperimentDesign, open_evaluations
from gauntlet.reporting.figures.catalog import TABLES, figure_names
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.robustness.inspection.arrays import read_arrays
from gauntlet.robustness.inspection.designs import DEFAULT


def available_figures(inputs: FigureInputs) -> list[str]:
    """Return the figures that can be drawn from the files in `inputs`, in the order of the tour."""
    design = None
    if inputs.has("evaluations"):
        with open_evaluations(inputs.path("evaluations")) as evaluations:
            design = evaluations.design
    return figure_names(tables={name for name in TABLES if inputs.has(name)}, features=_features(inputs, design))


def _features(inputs: FigureInputs, design: ExperimentDesign | None) -> set[str]:
    """Return the features of the experiment, see `catalog.FEATURES`; the graph derives them from the configuration."""
    attacks = design.attacks if design else ()
    features = {
        "attacks": bool(attacks),
        "certificates": bool(design and design.certificates) or _has_certificates(inputs),
        "factors": any(grid.is_varied for grid in (design.grids if design else ())),
        "layer_designs": any(
            array.name != DEFAULT for item in inputs.inspections for array in read_arrays(item.path, "dots")
        ),
        "negatives": any(read_arrays(item.path, "negative") for item in inputs.inspections),
        "several_variants": len(inputs.variants) > 1,
        "trainings": bool(inputs.histories),
        "transfers": any(attack.sources for attack in attacks),
    }
    return {name for name, present in features.items() if present}


def _has_certificates(inputs: FigureInputs) -> bool:
    """Check the table itself, for evaluations without a design."""
    return inputs.has("certificates") and len(read_columns(inputs.path("certificates"), ["seed"])) > 0
