"""What has to be done: the graph of cells, the recipe each one has now, and whether the file on disk still answers it.

Only light modules are imported and only small files and the ends of big ones are read, since every start of Snakemake
asks this of every cell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from gauntlet.config import grid
from gauntlet.config.datasets import Dataset
from gauntlet.config.grid import Cell
from gauntlet.config.schema import Config, Experiment
from gauntlet.core.errors import GauntletError, InputError, nearest
from gauntlet.core.provenance.digests import digest_file, digest_json
from gauntlet.core.provenance.environment import environment
from gauntlet.core.provenance.recipes import Marks, Recipe, scan
from gauntlet.pipeline import paths
from gauntlet.pipeline.fingerprint import fingerprint
from gauntlet.pipeline.slices import Slices, modules_of
from gauntlet.registry import FIGURES, SOURCES
from gauntlet.registry.source_code import module_file
from gauntlet.reporting.figures.catalog import figure_names

T = TypeVar("T")

_OF_MODELS = ("train", "evaluate", "certify", "diagnose", "inspect")
"""Stages that make a model, or measure one."""

UNMARKED = (".json", ".csv", ".md")
"""Files too plain to say what made them; what stands beside them does."""


class State(StrEnum):
    """Where a cell stands."""

    CURRENT = "current"
    STALE = "stale"
    MISSING = "missing"


class Plan:
    """The graph of one configuration against the files of one working folder (the current one).

    A plan looks at each file once; make a new one to look again.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._recipes: dict[Cell, Recipe | None] = {}
        self._states: dict[Cell, State] = {}
        self._reads: dict[Cell, dict[Path, Cell]] = {}
        self._upstream: dict[Cell, list[Cell]] = {}
        self._data_cells: dict[str, Cell] = {}
        self._shared: dict[tuple[str, ...], Any] = {}
        self._current: dict[Cell, bool] = {}
        self._digests: dict[Path, str | None] = {}
        self._marks: dict[Path, Marks] = {}
        self._slices = Slices(config)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """Map the id of each stored split to its settings; experiments that ask for the same one share it."""
        return {paths.dataset_id(one.dataset): one.dataset for one in self.config.experiments.values()}

    def cells(self, experiments: Iterable[str] | None = None) -> Iterator[Cell]:
        """List every cell, or those of some experiments with their data sets, each after those it needs."""
        chosen = list(self.config.experiments if experiments is None else experiments)
        yield from dict.fromkeys(map(self.data_cell, chosen))
        for name in chosen:
            yield from self.cells_of(name)

    def asked_for(self) -> list[str]:
        """List the experiments that somebody wants: the full forms, and the quick forms that were begun."""
        quick = self.config.quick_forms
        return [name for name in self.config.experiments if name not in quick or paths.experiment_folder(name).is_dir()]

    def cells_of(self, experiment: str) -> Iterator[Cell]:
        """List the cells of one experiment, each after those it needs; its data set is not among them."""
        settings = self.experiment(experiment)
        yield from grid.cells(experiment, settings)
        yield Cell("aggregate", experiment)
        yield from (Cell("figure", experiment, name=figure) for figure in self.figures(experiment))
        yield Cell("table", experiment)
        yield Cell("report", experiment)

    def figures(self, experiment: str) -> list[str]:
        """Return the figures that an experiment has, in the order of the tour."""
        return figure_names(features=self._features(experiment))

    def _features(self, experiment: str) -> set[str]:
        """Return the features of an experiment that figures need, see `gauntlet.reporting.figures.catalog`."""
        settings = self.experiment(experiment)
        features = {
            "attacks": bool(settings.attacks),
            "certificates": any(True for _ in grid.certificates(experiment, settings)),
            "negatives": any(settings.training_of(variant).negatives for variant in settings.variants),
            "several_variants": len(settings.variants) > 1,
            "transfers": any(attack.transfer_from for attack in settings.attacks.values()),
        }
        return {name for name, present in features.items() if present}

    def experiment(self, name: str) -> Experiment:
        """Find an experiment by name. Raises InputError that names the nearest one."""
        if name not in self.config.experiments:
            raise InputError(f"no experiment '{name}'", remedy=nearest(name, self.config.experiments))
        return self.config.experiments[name]

    def find(self, cell: Cell) -> Cell:
        """Check that a cell is one of this configuration's. Raises InputError that names the nearest id."""
        if cell.stage == "prepare":
            if cell.name not in self.datasets:
                raise InputError(f"no data set '{cell.name}'", remedy=nearest(cell.name, self.datasets))
            return cell
        every = list(self.cells_of(cell.experiment))
        if cell not in every:
            same_stage = [str(other) for other in every if other.stage == cell.stage]
            raise InputError(f"no cell '{cell}' in this configuration", remedy=nearest(str(cell), same_stage))
        return cell

    def reads(self, cell: Cell) -> dict[Path, Cell]:
        """Map every file that a cell reads to the cell that makes it; manifests stand for what they list."""
        if cell not in self._reads:
            self._reads[cell] = {} if cell.stage == "prepare" else self._read_by(cell)
        return self._reads[cell]

    def data_cell(self, experiment: str) -> Cell:
        """The cell that stores an experiment's data set."""
        if experiment not in self._data_cells:
            self._data_cells[experiment] = Cell("prepare", name=paths.dataset_id(self.experiment(experiment).dataset))
        return self._data_cells[experiment]

    def _read_by(self, cell: Cell) -> dict[Path, Cell]:
        name, settings = cell.experiment, self.experiment(cell.experiment)
        aggregate, stored = Cell("aggregate", name), self.data_cell(name)
        data = {paths.data_manifest(stored.name): stored}
        match cell.stage:
            case "train":
                return data
            case "evaluate":
                models = [cell.model, *grid.sources(cell, settings)]
                return {**data, **{paths.model_manifest(model): model for model in models}}
            case "certify" | "diagnose" | "inspect":
                return {**data, paths.model_manifest(cell.model): cell.model}
            case "aggregate":
                samples = [*grid.evaluations(name, settings), *grid.certificates(name, settings)]
                probed = {paths.probes(model): model for model in grid.diagnoses(name, settings)}
                return {**{paths.samples(probe): probe for probe in samples}, **probed}
            case "figure":
                tags, features = FIGURES.entry(cell.name).tags, self._features(name)
                tables = [*tags["reads"], *(table for table in tags.get("may_read", ()) if table in features)]
                return {path: maker for table in tables for path, maker in self._table(name, table).items()}
            case "table":
                made = (paths.evaluations, paths.certificates, paths.summary, paths.certified, paths.comparisons)
                return {path(name): aggregate for path in made}
            case _:
                figures = [Cell("figure", name, name=figure) for figure in self.figures(name)]
                drawn = {paths.figure(name, figure.name, "svg"): figure for figure in figures}
                tables = [path for path in paths.aggregates(name) if path.suffix not in UNMARKED]
                return {**dict.fromkeys(tables, aggregate), **drawn}

    def _table(self, experiment: str, table: str) -> dict[Path, Cell]:
        """List the files behind a table that a figure says it reads."""
        settings = self.experiment(experiment)
        match table:
            case "histories":
                return {paths.history(model): model for model in grid.models(experiment, settings)}
            case "examples":
                return {paths.examples(cell): cell for cell in grid.evaluations(experiment, settings)}
            case "inspections":
                return {paths.inspection(cell): cell for cell in grid.inspections(experiment, settings)}
            case _:
                return {getattr(paths, table)(experiment): Cell("aggregate", experiment)}

    def upstream(self, cell: Cell) -> list[Cell]:
        """List the cells whose files a cell reads; an aggregation waits for every model, attacked or not."""
        if cell not in self._upstream:
            makers = dict.fromkeys(self.reads(cell).values())
            if cell.stage == "aggregate":
                makers |= dict.fromkeys(grid.models(cell.experiment, self.experiment(cell.experiment)))
            self._upstream[cell] = list(makers)
        return self._upstream[cell]

    def recipe(self, cell: Cell) -> Recipe | None:
        """Say what decides a cell's bytes now; None while a file that it reads is not there."""
        if cell not in self._recipes:
            known = self._known(cell)
            complete = len(known) == len(self.gathered(cell))
            self._recipes[cell] = self._recipe(cell, known) if complete else None
        return self._recipes[cell]

    def outline(self, cell: Cell) -> Recipe:
        """Say what decides a cell's bytes now, as far as it is known: inputs that are not there are left out."""
        return self.recipe(cell) or self._recipe(cell, self._known(cell))

    def _known(self, cell: Cell) -> dict[str, str]:
        digests = {str(path): self.digest(path) for path in self.gathered(cell)}
        return {path: digest for path, digest in digests.items() if digest is not None}

    def gathered(self, cell: Cell) -> dict[Path, Cell]:
        """Map the files that a cell is made from to their makers.

        They are those it reads; where `allow_missing` is set, what is made of many cells does without those of models,
        attacks, certificates, probes and inspections that are missing or stale.
        """
        reads = self.reads(cell)
        if cell.stage not in ("aggregate", "figure") or not self.experiment(cell.experiment).allow_missing:
            return reads
        return {path: maker for path, maker in reads.items() if maker.stage not in _OF_MODELS or self.is_current(maker)}

    def left_out(self, experiment: str) -> list[Cell]:
        """List the attacks, certificates and probes that `allow_missing` lets aggregation do without."""
        aggregate = Cell("aggregate", experiment)
        kept = set(self.gathered(aggregate).values())
        return [maker for maker in self.reads(aggregate).values() if maker not in kept]

    def state(self, cell: Cell) -> State:
        """Say whether a cell's files are there and answer its recipe, and those it hangs on too."""
        if cell not in self._states:
            self._states[cell] = self._state(cell)
        return self._states[cell]

    def unfinished(self, cells: Iterable[Cell] | None = None) -> list[Cell]:
        """List the cells (all, if not said which) that are stale or missing."""
        return [cell for cell in (self.cells() if cells is None else cells) if self.state(cell) is not State.CURRENT]

    def is_current(self, cell: Cell) -> bool:
        """Tell whether a cell's files answer its recipe, whatever its inputs' own recipes say."""
        if cell not in self._current:
            recipe = self.recipe(cell)
            complete = recipe is not None and all(map(os.path.isfile, paths.products(cell)))
            self._current[cell] = complete and not self.foreign(cell)
        return self._current[cell]

    def foreign(self, cell: Cell) -> list[Path]:
        """List a cell's files that another recipe than the present one made, or that do not belong together."""
        recipe = self.recipe(cell)
        string = recipe.string if recipe else None
        products = paths.products(cell)
        others = [path for path in products if path.suffix not in UNMARKED and self.marks(path).cell != string]
        if cell.stage == "train" and not others:
            weights = self.marks(paths.model_weights(cell)).digest
            manifest = paths.model_manifest(cell)
            others += [manifest] if weights not in (None, self.digest(manifest)) else []
        return others

    def marks(self, path: Path) -> Marks:
        """Read what a file says of itself, once."""
        if path not in self._marks:
            self._marks[path] = scan(path)
        return self._marks[path]

    def _state(self, cell: Cell) -> State:
        if not all(map(os.path.isfile, paths.products(cell))):
            return State.MISSING
        if any(self.state(other) is not State.CURRENT for other in self.upstream(cell)):
            return State.STALE
        return State.CURRENT if self.is_current(cell) else State.STALE

    def digest(self, path: Path) -> str | None:
        """Find the digest that a manifest, or the file itself, states; None where there is none."""
        if path not in self._digests:
            self._digests[path] = _manifest_digest(path) if path.suffix == ".json" else self._own_digest(path)
        return self._digests[path]

    def _own_digest(self, path: Path) -> str | None:
        marks = self.marks(path)
        return marks.digest or marks.cell

    def _recipe(self, cell: Cell, inputs: dict[str, str]) -> Recipe:
        slice_, components = self._slice(cell)
        if self.config.strict_environment:
            slice_ = {**slice_, "environment": dict(environment())}
        ids = ("modules", cell.stage, cell.experiment, cell.variant, cell.name)
        modules = self._once(ids, lambda: fingerprint([f"gauntlet.pipeline.stages.{cell.stage}", *components]))
        if cell.stage in ("aggregate", "report"):
            inputs = {"cells": f"sha256:{digest_json(inputs)}"}
        return Recipe(cell.stage, slice_, modules, inputs)

    def _slice(self, cell: Cell) -> tuple[dict[str, Any], list[str]]:
        """Cut out what of the configuration decides a cell, and list the modules of the components it names."""
        if cell.stage == "prepare":
            dataset = self.datasets[cell.name]
            return dataset.as_dict(), modules_of(SOURCES, dataset.source)
        settings = self.experiment(cell.experiment)
        if cell.stage == "aggregate":
            order = digest_json([str(path) for path in self.gathered(cell)])
            # Their results may stay the same while what is known of the attacks, and so what follows, does not.
            attacks = digest_json({name: attack.as_dict() for name, attack in settings.attacks.items()})
            # What is printed travels in the results' metadata, for those who have no configuration.
            shown = settings.shown()
            told = {"shown": digest_json(shown)} if shown else {}
            return {"experiment": cell.experiment, "order": order, "attacks": attacks, **told}, []
        if cell.stage == "table":
            return {"experiment": cell.experiment, "variants": list(settings.variants), "shown": settings.shown()}, []
        if cell.stage == "figure":
            titles = {kind: named for kind, named in settings.shown().items() if kind != "headline"}
            told = {"titles": digest_json(titles)} if titles else {}
            return {"experiment": cell.experiment, "variants": list(settings.variants), **told}, [
                FIGURES.entry(cell.name).module
            ]
        if cell.stage == "report":
            settings_digest = digest_json(settings.as_dict())
            named = [str(other) for other in self.left_out(cell.experiment)]
            left_out = {"left_out": digest_json(named)} if named else {}
            return {
                "experiment": cell.experiment,
                "settings": settings_digest,
                "templates": _templates(),
                **left_out,
            }, []
        return self._slices.of(cell)

    def _once(self, ids: tuple[str, ...], make: Callable[[], T]) -> T:
        """Compute what many cells share for the first of them."""
        if ids not in self._shared:
            self._shared[ids] = make()
        shared: T = self._shared[ids]
        return shared


def _templates() -> str:
    """Hash the page's templates, which decide its bytes and are no modules."""
    package = module_file("gauntlet.reporting.page")
    files = sorted((package.parent / "templates").iterdir()) if package else []
    return digest_json({path.name: digest_file(path) for path in files})


def _manifest_digest(path: Path) -> str | None:
    try:
        digest = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if str(digest).startswith("sha256:") else f"sha256:{digest}"


def require_current_inputs(plan: Plan, cell: Cell) -> Recipe:
    """Give the recipe of a cell that is about to be made.

    Raises GauntletError that names what is missing among the files it is made from.
    """
    recipe = plan.recipe(cell)
    if recipe is None:
        missing = {path: maker for path, maker in plan.gathered(cell).items() if plan.digest(path) is None}
        path, maker = next(iter(missing.items()))
        wanted = str(path)
        if len(missing) > 1:
            named = "; ".join(str(one) for one in dict.fromkeys(list(missing.values())[:8]))
            wanted = f"{len(missing)} files that are missing: {named}" + ("; …" if len(missing) > 8 else "")
        unmarked = [path for path in missing if path.is_file()]
        if unmarked:
            problem = f"{cell} needs {unmarked[0]}, which does not say what made it"
            raise GauntletError(problem, remedy="delete it and run `snakemake`")
        remedy = f"run `gauntlet {maker.stage}` or `snakemake` first"
        if cell.stage == "aggregate":
            remedy += ", or set `allow_missing: true`"
        raise GauntletError(f"{cell} needs {wanted}", remedy=remedy)
    return recipe
