"""The recipe that each cell has now, and whether the files on disk were made by it.

Only light modules are imported, and only small files and the ends of large ones are read, since every start of
Snakemake asks about every cell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from gauntlet.config.schema import Config
from gauntlet.core.errors import GauntletError
from gauntlet.core.provenance.digests import digest_json, digest_user_file
from gauntlet.core.provenance.environment import environment
from gauntlet.core.provenance.recipes import FileMarks, Recipe, read_marks
from gauntlet.pipeline import paths
from gauntlet.pipeline.fingerprint import fingerprint
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.manifests import read_manifest
from gauntlet.pipeline.stage import Cell, CellJob

UNMARKED = (".json", ".csv", ".md")
"""Files that carry no metadata; the other files of their cell record what made them."""


class State(StrEnum):
    """The state of a cell's files."""

    CURRENT = "current"
    STALE = "stale"
    MISSING = "missing"


class Staleness:
    """The graph of a configuration compared with the files of the working folder.

    Each file is looked at once; make a new object to look again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._recipes: dict[Cell, Recipe | None] = {}
        self._states: dict[Cell, State] = {}
        self._current: dict[Cell, bool] = {}
        self._fingerprints: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._digests: dict[Path, str | None] = {}
        self._manifests: dict[Path, Mapping[str, Any]] = {}
        self._contents: dict[Path, str | None] = {}
        self._marks: dict[Path, FileMarks] = {}

    @classmethod
    def of(cls, config: Config) -> Staleness:
        """Compare a configuration with the files of the working folder."""
        return cls(Graph(config))

    def requested(self) -> list[str]:
        """List the experiments to report on: the full forms, and the quick forms that were begun."""
        config = self.graph.config
        quick = config.quick_forms
        return [name for name in config.experiments if name not in quick or paths.experiment_folder(name).is_dir()]

    def recipe(self, cell: Cell) -> Recipe | None:
        """Return what decides a cell's bytes now; None while a file that it reads is missing."""
        if cell not in self._recipes:
            inputs = self._input_digests(cell)
            is_complete = len(inputs) == len(self.gathered(cell))
            self._recipes[cell] = self._recipe(cell, inputs) if is_complete else None
        return self._recipes[cell]

    def outline(self, cell: Cell) -> Recipe:
        """Return what decides a cell's bytes now, as far as it is known: missing inputs are left out."""
        return self.recipe(cell) or self._recipe(cell, self._input_digests(cell))

    def gathered(self, cell: Cell) -> Mapping[Path, Cell]:
        """Map the files that a cell is made from to the cells that make them.

        These are its inputs; where `allow_missing` is set, a stage that tolerates it does without the missing and stale
        ones among models, attacks, certificates, probes and inspections.
        """
        inputs = self.graph.inputs(cell)
        if not cell.stage.tolerates_missing or not self._allows_missing(cell.experiment):
            return inputs
        return {path: maker for path, maker in inputs.items() if not maker.stage.uses_model or self.is_current(maker)}

    def left_out(self, experiment: str) -> list[Cell]:
        """List the attacks, certificates and probes that `allow_missing` leaves out of aggregation."""
        if not self._allows_missing(experiment):
            return []
        strict = [cell for cell in self.graph.cells_of(experiment) if cell.stage.requires_current]
        present = {maker for cell in strict for maker in self.gathered(cell).values()}
        makers = dict.fromkeys(maker for cell in strict for maker in self.graph.inputs(cell).values())
        return [maker for maker in makers if maker not in present]

    def state(self, cell: Cell) -> State:
        """Return whether a cell's files are present and current, and those of the cells it depends on."""
        if cell not in self._states:
            self._states[cell] = self._state(cell)
        return self._states[cell]

    def unfinished(self, cells: Iterable[Cell] | None = None) -> list[Cell]:
        """List the stale and missing cells among `cells` (default: all)."""
        candidates = self.graph.cells() if cells is None else cells
        return [cell for cell in candidates if self.state(cell) is not State.CURRENT]

    def is_current(self, cell: Cell) -> bool:
        """Return whether a cell's files match its recipe, whatever the recipes of its inputs."""
        if cell not in self._current:
            recipe = self.recipe(cell)
            is_complete = recipe is not None and all(map(os.path.isfile, cell.outputs))
            self._current[cell] = is_complete and not self.mismatched(cell)
        return self._current[cell]

    def mismatched(self, cell: Cell) -> list[Path]:
        """List a cell's files that another recipe than the present one made, or that do not belong together."""
        recipe = self.recipe(cell)
        string = recipe.digest if recipe else None
        others = [path for path in cell.outputs if path.suffix not in UNMARKED and self.marks(path).recipe != string]
        return others or cell.stage.unmatched(cell, self)

    def marks(self, path: Path) -> FileMarks:
        """Return what a file's metadata says of how it was made."""
        if path not in self._marks:
            self._marks[path] = read_marks(path)
        return self._marks[path]

    def digest(self, path: Path) -> str | None:
        """Return the digest that a manifest, or the file itself, states; None where there is none."""
        if path not in self._digests:
            self._digests[path] = _manifest_digest(path) if path.suffix == ".json" else self._own_digest(path)
        return self._digests[path]

    def content_digest(self, path: Path) -> str | None:
        """Return the SHA-256 of the content of a user's file in hex; None if it cannot be read."""
        if path not in self._contents:
            self._contents[path] = digest_user_file(path)
        return self._contents[path]

    def manifest(self, path: Path) -> Mapping[str, Any]:
        """Return the content of a manifest; empty if it cannot be read."""
        if path not in self._manifests:
            self._manifests[path] = read_manifest(path)
        return self._manifests[path]

    def job(self, cell: Cell) -> CellJob:
        """Return the job of a cell that is about to be made.

        Raises GauntletError that names the inputs that are missing, or stale where the stage requires current ones.
        """
        recipe = self.recipe(cell)
        if recipe is None:
            raise self._missing_inputs(cell)
        inputs = self.gathered(cell)
        is_summary = cell.stage.tolerates_missing or cell.stage.shows_results
        left_out = self.left_out(cell.experiment) if is_summary else []
        if cell.stage.requires_current:
            self._refuse_stale(cell, list(inputs.values()), left_out)
        return CellJob(cell, self.graph.scope(cell), recipe, inputs, tuple(left_out))

    def _allows_missing(self, experiment: str) -> bool:
        return self.graph.experiment(experiment).allow_missing

    def _state(self, cell: Cell) -> State:
        if not all(map(os.path.isfile, cell.outputs)):
            return State.MISSING
        if any(self.state(other) is not State.CURRENT for other in self.graph.upstream(cell)):
            return State.STALE
        return State.CURRENT if self.is_current(cell) else State.STALE

    def _own_digest(self, path: Path) -> str | None:
        marks = self.marks(path)
        return marks.content or marks.recipe

    def _input_digests(self, cell: Cell) -> dict[str, str]:
        digests = {maker.stage.input_name(path): self.digest(path) for path, maker in self.gathered(cell).items()}
        return {name: digest for name, digest in digests.items() if digest is not None}

    def _recipe(self, cell: Cell, inputs: dict[str, str]) -> Recipe:
        slice_ = dict(cell.stage.slice(cell, self.graph.scope(cell), self))
        if self.graph.config.strict_environment:
            slice_["environment"] = dict(environment())
        if cell.stage.summarizes_inputs:
            inputs = {"cells": f"sha256:{digest_json(inputs)}"}
        return Recipe(cell.stage.name, slice_, self.modules(cell), inputs)

    def modules(self, cell: Cell) -> Mapping[str, str]:
        """Return the fingerprint of the code that makes a cell; the same for all seeds, unless models are chosen."""
        scope = self.graph.scope(cell)
        seed = str(cell.seed) if scope.settings.choices else ""
        ids = (cell.stage.name, cell.experiment, cell.variant, seed, cell.name)
        if ids not in self._fingerprints:
            components = cell.stage.modules(cell, scope, self)
            self._fingerprints[ids] = fingerprint([cell.stage.module_of(cell, scope), *components])
        return self._fingerprints[ids]

    def _missing_inputs(self, cell: Cell) -> GauntletError:
        missing = {path: maker for path, maker in self.gathered(cell).items() if self.digest(path) is None}
        unmarked = [path for path in missing if path.is_file()]
        if unmarked:
            problem = f"{cell} needs {unmarked[0]}, which does not record what made it"
            return GauntletError(problem, remedy="delete it and start the run again")
        path, maker = next(iter(missing.items()))
        files = str(path)
        if len(missing) > 1:
            makers = list(dict.fromkeys(list(missing.values())[:8]))
            files = f"{len(missing)} files that are missing: {'; '.join(map(str, makers))}"
            files += "; …" if len(missing) > 8 else ""
        remedy = f"run `gauntlet {maker.stage.command}` or the whole run first"
        if cell.stage.requires_current:
            remedy += ", or set `allow_missing: true`"
        return GauntletError(f"{cell} needs {files}", remedy=remedy)

    def _refuse_stale(self, cell: Cell, makers: list[Cell], left_out: list[Cell]) -> None:
        """Refuse inputs of another recipe than the present one, and models that were exchanged under their cells."""
        if left_out and not makers:
            raise GauntletError("every cell is missing or stale", where=str(cell), remedy="start the run again")
        checked = dict.fromkeys(other for maker in makers for other in (*self.graph.upstream(maker), maker))
        stale = [other for other in checked if other.stage.uses_model and not self.is_current(other)]
        if stale:
            listed = "; ".join(map(str, stale[:8])) + (f"; and {len(stale) - 8} more" if len(stale) > 8 else "")
            raise GauntletError(
                f"{len(stale)} cells were made by another configuration, code, data or model: {listed}",
                remedy="`gauntlet status` lists what differs; start the run again, which makes them anew",
            )


def _manifest_digest(path: Path) -> str | None:
    try:
        digest = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if str(digest).startswith("sha256:") else f"sha256:{digest}"
