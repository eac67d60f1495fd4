"""Declaration of the stage `figure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gauntlet.core.provenance.digests import digest_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, FromResults, Scope, Slice, Stage
from gauntlet.pipeline.stages.aggregate.declaration import aggregate_cell, summary_path
from gauntlet.pipeline.stages.certify.declaration import certificates
from gauntlet.pipeline.stages.evaluate.declaration import evaluations
from gauntlet.pipeline.stages.inspect.declaration import inspections
from gauntlet.pipeline.stages.train.declaration import measured_models
from gauntlet.registry import FIGURES, Spec
from gauntlet.reporting.figures.catalog import figure_names
from gauntlet.robustness.inspection.designs import DEFAULT, design_of


def figures(scope: Scope) -> list[str]:
    """Return the names of an experiment's figures, in the order of the tour."""
    return figure_names(features=_features(scope))


def _features(scope: Scope) -> set[str]:
    """Return the features of an experiment that figures need, see `gauntlet.reporting.figures.catalog`."""
    settings = scope.settings
    networks = [
        (name, variant)
        for measured in settings.measured
        for name, variant in settings.possible_networks(measured).items()
    ]
    features = {
        "attacks": bool(settings.attacks),
        "certificates": any(True for _ in certificates(scope)),
        "factors": any(grid.is_varied for grid in settings.measured_grids),
        "layer_designs": any(_names_a_design(variant.model) for _, variant in networks),
        "negatives": any(settings.training_of(name).negatives for name, _ in networks),
        "several_variants": len(settings.measured) > 1,
        "trainings": any(not variant.is_adopted for _, variant in networks),
        "transfers": any(attack.transfer_from for attack in settings.attacks.values()),
    }
    return {name for name, is_present in features.items() if is_present}


def _names_a_design(model: Spec) -> bool:
    """Return whether a network's layers are not the default ones: the graph finds what inspections have found."""
    design = design_of(model)
    return design is not None and design.name != DEFAULT


def _inputs(cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    tags, features = FIGURES.entry(cell.name).tags, _features(scope)
    tables = [*tags["reads"], *(table for table in tags.get("may_read", ()) if table in features)]
    return {path: maker for table in tables for path, maker in _files_of(table, scope).items()}


def _is_trained(model: Cell, scope: Scope) -> bool:
    """Return whether a model has a history with epochs, or may have one."""
    return not all(variant.is_adopted for variant in scope.settings.possible_networks(model.variant).values())


def _files_of(table: str, scope: Scope) -> dict[Path, Cell]:
    """Map the files that hold a table, which a figure declares that it reads, to the cells that make them."""
    match table:
        case "histories":
            return {paths.history(model): model for model in measured_models(scope) if _is_trained(model, scope)}
        case "examples":
            return {paths.examples(cell): cell for cell in evaluations(scope)}
        case "inspections":
            return {paths.inspection(cell): cell for cell in inspections(scope)}
        case _:
            return {getattr(paths, table)(scope.name): aggregate_cell(scope.name)}


def _slice(cell: Cell, scope: Scope, _files: Files) -> Slice:
    tags = FIGURES.entry(cell.name).tags
    titles = scope.settings.presentation()
    headline = titles.pop("headline", None)
    shown = {"titles": digest_json(titles)} if titles else {}
    # Figures of all variants do not depend on those that the others show.
    selected = [] if tags.get("shows_all") else list(scope.settings.shown()[0])
    by = list(scope.settings.facets or ()) if tags.get("faceted") else []
    return {
        "experiment": cell.experiment,
        "variants": list(scope.settings.measured),
        **shown,
        **({"headline": headline} if headline and tags.get("at_headline") else {}),
        **({"show": selected} if selected else {}),
        **({"facets": by} if by else {}),
    }


STAGE: Stage = Stage(
    name="figure",
    order=70,
    command="figures",
    help="Draw the figures.",
    ids=("experiment", "name"),
    cells=lambda scope: [Cell(STAGE, scope.name, name=name) for name in figures(scope)],
    inputs=_inputs,
    outputs=lambda cell: tuple(paths.figure(cell.experiment, cell.name, suffix) for suffix in paths.FIGURE_FORMATS),
    slice=_slice,
    modules=lambda cell, _scope, _files: list(FIGURES.entry(cell.name).modules),
    setting_path=summary_path,
    tolerates_missing=True,
    shows_results=True,
    from_results=FromResults(
        "gauntlet.reporting.from_results:figures_from_results", out="figures", options={"name": None, "style": "paper"}
    ),
    minutes=15,
    group="figures",
    late_imports=(
        "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_pdf",
        "matplotlib.backends.backend_svg",
        "fontTools.subset",
    ),
    fills_caches="gauntlet.reporting.figures.caches:fill_caches",
)
