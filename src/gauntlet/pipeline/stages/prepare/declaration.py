"""Declaration of the stage `prepare`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gauntlet.config.datasets import Dataset
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import InputError, nearest
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.raw_files import raw_files_changed
from gauntlet.learning.data.visible import expand
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import modules_of
from gauntlet.registry import SOURCES
from gauntlet.registry.libraries import data_set_names


def data_cell(scope: Scope) -> Cell:
    """Return the cell that stores an experiment's data set; experiments with the same one share it."""
    return scope.once(("data",), lambda: Cell(STAGE, name=paths.dataset_id(scope.settings.dataset)))


def data_inputs(scope: Scope) -> dict[Path, Cell]:
    """Map the manifest of an experiment's data set to the cell that makes it."""
    cell = data_cell(scope)
    return {paths.data_manifest(cell.name): cell}


def prepared_classes(dataset: Dataset) -> int | None:
    """Return the number of classes of a data set that is stored; None if it is not, or cannot be read."""
    try:
        return load_data_manifest(paths.data_folder(paths.dataset_id(dataset))).num_classes
    except InputError:
        return None


def source_problem(scope: Scope) -> InputError | None:
    """Return the error for a data set that torchvision does not have, or that is not stored and has no raw files.

    The folder is the option that the source's tag `folder` names; a source that downloads its files needs none.
    """
    source, cell = scope.settings.dataset.source, data_cell(scope)
    name, known = source.options.get("name"), data_set_names() if source.name == "torchvision" else []
    if known and name not in known:
        problem = f"torchvision has no image data set '{name}'"
        return InputError(problem, where=f"experiments.{scope.name}.dataset.name", remedy=nearest(str(name), known))
    key = SOURCES.entry(source.name).tags.get("folder")
    if key is None or source.options.get("download") or paths.data_manifest(cell.name).exists():
        return None
    folder = source.options.get(key)
    if not isinstance(folder, str) or os.path.isdir(expand(folder)):  # noqa: PTH112 - False, too, without permission
        return None
    remedy = "put the files there, or set the key to the folder that contains them"
    return InputError(
        f"there is no folder '{folder}', or it cannot be read",
        where=f"experiments.{scope.name}.dataset.{key}",
        remedy=remedy,
    )


def raw_folder(scope: Scope) -> Path | None:
    """Return the folder of the raw files that decide a data set; None for sources without the tag `compared`."""
    source = scope.settings.dataset.source
    tags = SOURCES.entry(source.name).tags
    return expand(str(source.options[tags["folder"]])) if tags.get("compared") else None


def _outdated(cell: Cell, scope: Scope) -> bool:
    folder = raw_folder(scope)
    return folder is not None and raw_files_changed(paths.data_folder(cell.name), folder)


def _inputs(_cell: Cell, _scope: Scope) -> Mapping[Path, Cell]:
    return {}


def _outputs(cell: Cell) -> tuple[Path, ...]:
    return (*(paths.data_file(cell.name, split) for split in paths.SPLITS), paths.data_manifest(cell.name))


def _input_name(path: Path) -> str:
    # The folder's name depends on where the raw images are. An experiment has one data set.
    return f"{paths.DATA}/{path.name}"


def _slice(_cell: Cell, scope: Scope, _files: Files) -> Slice:
    return scope.settings.dataset.as_dict()


def _setting_path(_cell: Cell, path: tuple[str, ...], _settings: Experiment | None) -> tuple[str, ...]:
    if path[0] != "source":
        return ("dataset", *path)
    # The options of a source are keys next to its name.
    return ("dataset", *(("source",) if path[1:] == ("name",) else path[1:]))


STAGE: Stage = Stage(
    name="prepare",
    order=0,
    help="Fetch, split and store the data sets.",
    ids=("dataset",),
    cells=lambda scope: [data_cell(scope)],
    inputs=_inputs,
    outputs=_outputs,
    slice=_slice,
    modules=lambda _cell, scope, _files: modules_of([(SOURCES, scope.settings.dataset.source)]),
    input_name=_input_name,
    setting_path=_setting_path,
    outdated=_outdated,
    minutes=60,
)
