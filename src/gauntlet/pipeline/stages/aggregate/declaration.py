"""Declaration of the stage `aggregate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gauntlet.core.provenance.digests import digest_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.certify.declaration import certificates
from gauntlet.pipeline.stages.diagnose.declaration import diagnoses
from gauntlet.pipeline.stages.evaluate.declaration import evaluations
from gauntlet.pipeline.stages.train.declaration import choice_inputs, models

SETTING_NAMES = {
    "order": "the cells or their order",
    "candidates": "the candidates of random searches",
    "attacks": "the attacks' settings",
    "settings": "the experiment's settings",
    "templates": "the page's templates",
    "variants": "variants",
    "shown": "titles, headline or grids",
}
"""Names of the keys of slices that hold a digest of several keys of the configuration."""


def aggregate_cell(experiment: str) -> Cell:
    """Return the cell that aggregates an experiment."""
    return Cell(STAGE, experiment)


def summary_path(_cell: Cell, path: tuple[str, ...], _settings: object) -> tuple[str, ...]:
    """Spell a key of the slice of a stage that summarizes an experiment."""
    return path if path[0] == "experiment" else (SETTING_NAMES.get(path[0], path[0]),)


def _inputs(_cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    measured = [*evaluations(scope), *certificates(scope), *diagnoses(scope)]
    return {cell.outputs[0]: cell for cell in measured} | _choices(scope)


def _choices(scope: Scope) -> dict[Path, Cell]:
    """Map the histories of chosen models and of their candidates, which decide the choices, to their cells.

    The record of a choice is in the manifest of the chosen model, whose digest is that of the weights alone.
    """
    chosen = [cell for cell in models(scope) if cell.variant in scope.settings.choices]
    candidates = [made for cell in chosen for made in choice_inputs(cell, scope).values()]
    return {paths.history(model): model for model in dict.fromkeys([*candidates, *chosen])}


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    settings = scope.settings
    shown = settings.presentation()
    return {
        "experiment": cell.experiment,
        "order": digest_json([str(path) for path in files.gathered(cell)]),
        # The rows may stay the same while an attack's settings, which decide what follows from them, change.
        "attacks": digest_json({name: settings.attack_dict(name) for name in settings.attacks}),
        # Titles and headline travel in the metadata of the results, for readers without the configuration.
        **({"shown": digest_json(shown)} if shown else {}),
        # The settings that candidates were drawn with are a column of the table of choices.
        **({"candidates": digest_json(settings.drawn)} if settings.drawn else {}),
    }


STAGE: Stage = Stage(
    name="aggregate",
    order=60,
    help="Combine all cells of an experiment, check them against each other, and summarize.",
    ids=("experiment",),
    cells=lambda scope: [aggregate_cell(scope.name)],
    inputs=_inputs,
    # Models that nothing is measured on are part of the experiment too.
    waits_for=models,
    outputs=lambda cell: tuple(paths.aggregates(cell.experiment)),
    slice=_slice,
    setting_path=summary_path,
    summarizes_inputs=True,
    tolerates_missing=True,
    requires_current=True,
    minutes=60,
)
