"""A stage as one object, and the cells that it makes.

A stage is declared once, in `stages/NAME/declaration.py`, which loads no torch; its work is the function `run` in
`stages/NAME/run.py`. The graph, staleness, resources, status, the command line and Snakemake's rules iterate over the
declared stages and read from them whatever they need.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gauntlet.config.execution import Execution
from gauntlet.config.schema import Config, Experiment
from gauntlet.core.provenance.recipes import Recipe

T = TypeVar("T")

Slice = Mapping[str, Any]
"""The part of the configuration that decides a cell, as plain values."""


@dataclass(frozen=True)
class Cell:
    """One unit of work and what it makes: a stored data set, a model, the rows of one attack on one model, and so on.

    `name` distinguishes the cells of one stage beyond experiment, variant and seed: it is the name of the data set, the
    attack, the certificate or the figure. Ids that a stage does not use are empty.
    """

    stage: Stage
    experiment: str = ""
    variant: str = ""
    seed: int = 0
    name: str = ""

    def __str__(self) -> str:
        parts = [self.stage.name, self.experiment]
        if self.variant:
            parts += [f"variant={self.variant}", f"seed={self.seed}"]
        if self.stage.key:
            parts += [f"{self.stage.key}={self.name}"]
        return " ".join(part for part in parts if part)

    @property
    def ids(self) -> dict[str, str]:
        """The ids that the stage uses, by name, as text: Snakemake's wildcards and options of the command."""
        values = {
            "experiment": self.experiment,
            "variant": self.variant,
            "seed": str(self.seed),
            self.stage.key: self.name,
        }
        return {name: values[name] for name in self.stage.ids}

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that the cell makes. The first one records what made it, and is written last."""
        return _outputs(self)


@cache
def _outputs(cell: Cell) -> tuple[Path, ...]:
    """Compute a cell's files once: a graph of ten thousand cells asks for them several times."""
    return cell.stage.outputs(cell)


class Scope:
    """One experiment of a configuration, as declarations read it. `once` computes what many cells share."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.config = name, config
        self.settings: Experiment = config.experiments[name]
        self._memo: dict[tuple[str, ...], Any] = {}

    def once(self, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        """Return the value computed for the first cell that asked with this key."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value


class Files(Protocol):
    """The knowledge about files that a declaration may use."""

    def gathered(self, cell: Cell) -> Mapping[Path, Cell]:
        """Map the files that a cell is made from to the cells that make them."""

    def left_out(self, experiment: str) -> list[Cell]:
        """Return the cells that `allow_missing` leaves out of aggregation."""

    def content_digest(self, path: Path) -> str | None:
        """Return the SHA-256 of the content of a user's file in hex; None if it cannot be read."""

    def manifest(self, path: Path) -> Mapping[str, Any]:
        """Return the content of a manifest; empty if it cannot be read."""


@dataclass(frozen=True)
class CellJob:
    """Everything that a stage's function receives: the cell, its experiment, and its recipe.

    `inputs` maps the files that the cell is made from to the cells that make them; `left_out` are the cells that
    aggregation does without, because they are missing or stale and `allow_missing` is set.
    """

    cell: Cell
    scope: Scope
    recipe: Recipe
    inputs: Mapping[Path, Cell] = field(default_factory=dict)
    left_out: tuple[Cell, ...] = ()

    @property
    def experiment(self) -> Experiment:
        """The settings of the cell's experiment."""
        return self.scope.settings

    @property
    def execution(self) -> Execution:
        """Device, precision and cluster settings, none of which decides a result."""
        return self.scope.config.execution


@dataclass(frozen=True)
class FromResults:
    """The work of a stage on one results file alone, without a configuration.

    `function` is the import path of a function ``(file, out, **options) -> list[Path]``, `out` where it writes by
    default, `options` the further options of the command that it takes, with their defaults.
    """

    function: str
    out: str
    options: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def only(self) -> dict[str, str]:
        """The options for a results file alone, with their defaults; one without a default is an id of cells too."""
        return {"out": self.out, **{name: default for name, default in self.options.items() if default}}


def _single(_cell: Cell, _scope: Scope) -> int:
    return 1


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Stage:
    """A stage: which cells it has, what they read and make, what decides them, and what their jobs need.

    None of its functions reads a file of an experiment.

    Identity: `name` is the stage's and its folder's; `order` sorts the stages, each after those whose files it reads;
    `help` is shown by ``gauntlet --help``, where the stage is the sub-command `command`. `needs` names what an
    experiment without cells of the stage lacks, where not every experiment has some. `ids` are the ids of a cell,
    which are also the wildcards of its rule; the last one is `key` if it is not experiment, variant or seed.

    The graph: `cells` lists the cells of an experiment, `inputs` maps the files that a cell reads to the cells that
    make them, `waits_for` lists further cells that must be finished before, `outputs` are its files.

    Staleness: `slice` is the part of the configuration that decides a cell, `modules` the modules of the components it
    names (the code of `run` is always part of a recipe). `input_name` is the name under which the recipes of other
    cells list a file of the stage: its path, unless files of other paths with equal content may replace it. `work`
    names the module of the stage's folder that has `run` for a cell, where there are several. `setting_path` spells a
    key of the slice as the path below the experiment that a user finds in the configuration file. With
    `summarizes_inputs` a recipe holds one digest of all inputs instead of one each. `tolerates_missing` stages can do
    without inputs where `allow_missing` is set; `requires_current` stages refuse stale inputs. `unmatched` lists
    outputs that do not belong together. `outdated` returns whether raw files changed since a current cell was made;
    only the stage's own command asks for it.

    Work: `uses_model` stages compute with a network, on a GPU where there is one, except for the cells that `is_light`
    names: these take seconds, and a job of their own without a GPU. `resumable` stages keep partial files;
    `shards` is the number of jobs that share a cell's work, `processes` the number of processes in each.
    `shardable` stages have a function `run_shard`. `shows_results` stages show what others computed. `from_results` is
    how the stage works on a results file alone. `late_imports` are libraries that the work imports late, and that most
    cells need: processes that are forked for cells have them before (`pipeline.forking`), and find the caches filled
    that the function `fills_caches`, an import path, fills.

    The cluster: `minutes` is the time a job asks for when nothing is known (None: what the configuration says),
    `group` names the stages whose short cells share jobs, `rules` are the Snakemake rules whose jobs make its cells.
    """

    name: str
    order: int
    help: str
    needs: str = ""
    ids: tuple[str, ...]
    cells: Callable[[Scope], Iterable[Cell]]
    inputs: Callable[[Cell, Scope], Mapping[Path, Cell]]
    outputs: Callable[[Cell], tuple[Path, ...]]
    slice: Callable[[Cell, Scope, Files], Slice]
    modules: Callable[[Cell, Scope, Files], Sequence[str]] = lambda _cell, _scope, _files: ()
    work: Callable[[Cell, Scope], str] = lambda _cell, _scope: "run"
    input_name: Callable[[Path], str] = str
    command: str = ""
    waits_for: Callable[[Scope], Iterable[Cell]] = lambda _scope: ()
    setting_path: Callable[[Cell, tuple[str, ...], Experiment | None], tuple[str, ...]] = lambda _cell, path, _: path
    summarizes_inputs: bool = False
    tolerates_missing: bool = False
    requires_current: bool = False
    unmatched: Callable[[Cell, Any], list[Path]] = lambda _cell, _staleness: []
    outdated: Callable[[Cell, Scope], bool] = lambda _cell, _scope: False
    uses_model: bool = False
    is_light: Callable[[Cell, Scope], bool] = lambda _cell, _scope: False
    resumable: bool = False
    shardable: bool = False
    shards: Callable[[Cell, Scope], int] = _single
    processes: Callable[[Cell, Scope], int] = _single
    shows_results: bool = False
    from_results: FromResults | None = None
    late_imports: tuple[str, ...] = ()
    fills_caches: str = ""
    minutes: int | None = None
    group: str | None = None
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Name the command and the rule after the stage where the declaration names none."""
        object.__setattr__(self, "command", self.command or self.name)
        object.__setattr__(self, "rules", self.rules or (self.name,))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<stage {self.name}>"

    @property
    def key(self) -> str:
        """The id that holds a cell's `name`; empty for a stage whose cells have no name."""
        return next((name for name in self.ids if name not in ("experiment", "variant", "seed")), "")

    @property
    def module(self) -> str:
        """The module whose function `run` does the work of most cells."""
        return f"{__package__}.stages.{self.name}.run"

    def module_of(self, cell: Cell, scope: Scope) -> str:
        """Return the module whose function `run` makes a cell; the cell's recipe holds the code that it reaches."""
        return f"{__package__}.stages.{self.name}.{self.work(cell, scope)}"

    def cell(self, ids: Mapping[str, Any]) -> Cell:
        """Return the cell that ids name, such as Snakemake's wildcards."""
        seed = int(ids["seed"]) if "seed" in self.ids else 0
        texts = (str(ids[name]) if name in self.ids else "" for name in ("experiment", "variant"))
        experiment, variant = texts
        return Cell(self, experiment, variant, seed, str(ids[self.key]) if self.key else "")

    def run(self, job: CellJob, shard: str | None = None) -> None:
        """Make the job's cell, or shard I/N of it. Imports the code that does so."""
        module = importlib.import_module(self.module_of(job.cell, job.scope))
        # This module loads no torch.
        around: Any = importlib.import_module(f"{__package__}.stages.device") if self.uses_model else None
        with nullcontext() if around is None else around.computing(str(job.cell)):
            if shard is None:
                module.run(job)
            else:
                module.run_shard(job, shard)
