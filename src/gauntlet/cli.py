"""The `gauntlet` command: every stage as a sub-command that reads and writes files."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.files import SCRATCH
from gauntlet.core.signals import orderly_exit
from gauntlet.pipeline.cluster.fork_server import run_in_fork

if TYPE_CHECKING:
    from gauntlet.config import Cell, Config
    from gauntlet.pipeline.staleness import Plan

log = logging.getLogger("gauntlet")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One configuration file in; models, attacks, certificates, statistics, figures and a report out.",
)

Configs = Annotated[list[Path] | None, typer.Argument(help="configuration files; config.yaml if none is given")]
ExperimentOption = Annotated[
    str | None, typer.Option("--experiment", help="only this experiment; without it all but the quick forms")
]
VariantOption = Annotated[str | None, typer.Option("--variant", help="only this variant")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="only this training seed")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; results depend on it by rounding")
]
ForceOption = Annotated[bool, typer.Option("--force", help="do it again even where nothing is stale")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from gauntlet import __version__

        typer.echo(f"gauntlet {__version__}")
        raise typer.Exit


@app.callback()
def common(
    quiet: Annotated[bool, typer.Option("--quiet", help="only warnings and errors")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Set up logging for whichever sub-command follows."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING if quiet else logging.INFO)
    # Matplotlib embeds fonts through a library that logs every table of every font.
    logging.getLogger("fontTools").setLevel(logging.WARNING)


@app.command()
def check(configs: Configs = None) -> None:
    """Check configuration files: every error with its path in the file, exit 2; nothing is written."""
    from gauntlet.config import load
    from gauntlet.pipeline.staleness import Plan

    plan = Plan(load(_paths(configs)))
    for name in plan.config.experiments:
        stages = [cell.stage for cell in plan.cells_of(name)]
        counted = ", ".join(f"{stages.count(stage)} {stage}" for stage in ("train", "evaluate", "certify", "diagnose"))
        typer.echo(f"{name}: {counted}")


@app.command()
def status(
    configs: Configs = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs; docs/status.md says what is in it")] = False,
    every: Annotated[bool, typer.Option("--every", help="name every cell, not only the first few of a kind")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="also quick forms that were not begun")] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="a live table of variants and attacks until all is done; Ctrl-C ends it")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="seconds between two looks of --watch")] = 5.0,
) -> None:
    """Tell where a run stands: what is done, stale, missing or failed, what made it so, what making it will cost."""
    import json

    from rich.console import Console

    from gauntlet.config import load
    from gauntlet.pipeline.staleness import Plan
    from gauntlet.pipeline.status.display import print_status
    from gauntlet.pipeline.status.json_status import status_as_dict
    from gauntlet.pipeline.status.run_status import collect_status

    if watching:
        from gauntlet.pipeline.status.watching import watch

        if as_json or every:
            raise InputError("--watch shows one table", remedy="leave out --json and --every")
        watch(lambda: Plan(load(_paths(configs))), Console(), interval_s=interval, quick=quick)
        return
    run = collect_status(Plan(load(_paths(configs))), quick=quick)
    if as_json:
        typer.echo(json.dumps(status_as_dict(run), indent=1, ensure_ascii=False))
    else:
        print_status(run, Console(), every=every)


@app.command()
def prepare(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="only this data set, by its folder name")] = None,
    force: ForceOption = False,
) -> None:
    """Fetch, split and store the data sets."""
    _perform(configs, "prepare", _Wanted(experiment, name=dataset), force)


@app.command()
def train(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Train models."""
    _limit_threads(threads)
    _perform(configs, "train", _Wanted(experiment, variant, seed), force)


@app.command()
def evaluate(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    attack: Annotated[str | None, typer.Option("--attack", help="only this attack")] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="only this share of the samples, as I/N; the whole gathers them")
    ] = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Run attacks on trained models."""
    _limit_threads(threads)
    _perform(configs, "evaluate", _Wanted(experiment, variant, seed, attack), force, shard)


@app.command()
def predict(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    attack: Annotated[str | None, typer.Option("--attack", help="only this attack")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="samples of a batch; four batches are tried")] = 32,
    threads: ThreadsOption = None,
    force: Annotated[bool, typer.Option("--force", help="also where the attack has been run")] = False,
) -> None:
    """Try each attack on a few samples of its model and predict how long it will take; no result is written."""
    _limit_threads(threads)
    from gauntlet.config import load
    from gauntlet.pipeline.stages.predict import predict_all
    from gauntlet.pipeline.staleness import Plan
    from gauntlet.pipeline.status.display import format_predictions

    plan = Plan(load(_paths(configs)))
    chosen = _chosen(plan, "evaluate", _Wanted(experiment, variant, seed, attack), doing="predict")
    wanted = [cell for cell in chosen if force or not plan.is_current(cell)]
    typer.echo(format_predictions(predict_all(plan, wanted, batch=samples), done=len(chosen) - len(wanted)))


@app.command()
def certify(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    certificate: Annotated[str | None, typer.Option("--certificate", help="only this certificate")] = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Compute certificates of trained models."""
    _limit_threads(threads)
    _perform(configs, "certify", _Wanted(experiment, variant, seed, certificate), force)


@app.command()
def diagnose(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Probe trained models for gradient masking."""
    _limit_threads(threads)
    _perform(configs, "diagnose", _Wanted(experiment, variant, seed), force)


@app.command()
def inspect(
    configs: Configs = None,
    experiment: ExperimentOption = None,
    variant: VariantOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Look into trained models: activations, filters, what excites units, for figures."""
    _limit_threads(threads)
    _perform(configs, "inspect", _Wanted(experiment, variant, seed), force)


@app.command()
def aggregate(configs: Configs = None, experiment: ExperimentOption = None, force: ForceOption = False) -> None:
    """Combine all cells of an experiment, check them against each other, and summarise."""
    _perform(configs, "aggregate", _Wanted(experiment), force)


@app.command()
def figures(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="configuration files, or one evaluations.parquet to draw from alone")
    ] = None,
    experiment: ExperimentOption = None,
    name: Annotated[str | None, typer.Option("--name", help="only this figure")] = None,
    out: Annotated[Path, typer.Option("--out", help="where figures drawn from one file go")] = Path("figures"),
    style: Annotated[str, typer.Option("--style", help="paper or slides, of figures drawn from one file")] = "paper",
    force: ForceOption = False,
) -> None:
    """Draw the figures."""
    if sources and sources[0].suffix == ".parquet":
        from gauntlet.reporting.from_results import draw_from_results

        for path in draw_from_results(sources[0], out, name, style):
            typer.echo(path)
        return
    if style != "paper":
        raise InputError(f"figures of a configuration are for paper, not {style}", remedy="name evaluations.parquet")
    _perform(sources, "figure", _Wanted(experiment, name=name), force)


@app.command()
def tables(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="configuration files, or one evaluations.parquet to write from alone")
    ] = None,
    experiment: ExperimentOption = None,
    out: Annotated[Path, typer.Option("--out", help="where tables written from one file go")] = Path("tables"),
    force: ForceOption = False,
) -> None:
    """Write the tables of a paper: LaTeX with a macro per number, Markdown, CSV."""
    if sources and sources[0].suffix == ".parquet":
        from gauntlet.reporting.from_results import tables_from_results

        for path in tables_from_results(sources[0], out):
            typer.echo(path)
        return
    _perform(sources, "table", _Wanted(experiment), force)


@app.command()
def report(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="configuration files, or one evaluations.parquet to show alone")
    ] = None,
    experiment: ExperimentOption = None,
    out: Annotated[Path, typer.Option("--out", help="the page that is written from one file")] = Path("report.html"),
    force: ForceOption = False,
) -> None:
    """Write the page that shows everything."""
    if sources and sources[0].suffix == ".parquet":
        from gauntlet.reporting.from_results import report_from_results

        report_from_results(sources[0], out)
        typer.echo(out)
        return
    _perform(sources, "report", _Wanted(experiment), force)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    asking: Annotated[
        bool, typer.Option("--status", help="where the controller stands that was submitted here")
    ] = False,
    cancelling: Annotated[
        bool, typer.Option("--cancel", help="cancel it, and the jobs of its cells; what is finished is kept")
    ] = False,
) -> None:
    """Run `snakemake` with the same arguments as a SLURM job, which queues itself again before its time limit.

    The profile is `--profile slurm` if none is named.
    """
    from gauntlet.pipeline.cluster.controller import submission

    arguments = context.args
    if (asking or cancelling) and (arguments or (asking and cancelling)):
        raise InputError(
            "--status and --cancel stand alone", remedy="they speak of what was submitted from this folder"
        )
    if asking:
        typer.echo(submission.controller_status() or "no controller was submitted from this folder")
    elif cancelling:
        typer.echo(f"cancelled: {', '.join(submission.cancel()) or 'nothing, no job was there'}")
    else:
        sent = submission.submit(arguments)
        typer.echo(f"controller: job {sent.job}, log {sent.log}; gauntlet submit --status, or --cancel")


def main() -> None:
    """Run the command; what a user can mend is one line on standard error, never a traceback."""
    # A user's own classes are named by import path and stand where the command is run.
    sys.path.insert(0, str(Path.cwd()))
    try:
        run_in_fork("gauntlet", sys.argv[1:])
        with orderly_exit():
            app()
    except GauntletError as error:
        for line in str(error).splitlines():
            print(f"gauntlet: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"gauntlet: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _paths(configs: list[Path] | None) -> list[Path]:
    return configs or [Path("config.yaml")]


@dataclass(frozen=True)
class _Wanted:
    """The ids that a user gave; None stands for all, but not for quick forms, which are made by name only."""

    experiment: str | None = None
    variant: str | None = None
    seed: int | None = None
    name: str | None = None

    def experiments(self, config: Config, stage: str) -> Iterable[str]:
        """List the experiments that are meant; a data set by its name may belong to any."""
        if self.experiment is None:
            return config.experiments if stage == "prepare" and self.name else config.full_forms
        return [name for name in config.experiments if name == self.experiment]

    def __call__(self, cell: Cell) -> bool:
        return (
            self.variant in (None, cell.variant) and self.seed in (None, cell.seed) and self.name in (None, cell.name)
        )


def _chosen(plan: Plan, stage: str, wanted: _Wanted, *, doing: str) -> list[Cell]:
    """List the wanted cells of a stage. Raises InputError that names some cells where there is none."""
    experiments = wanted.experiments(plan.config, stage)
    chosen = [cell for cell in plan.cells(experiments) if cell.stage == stage and wanted(cell)]
    if not chosen:
        known = ", ".join([str(cell) for cell in plan.cells() if cell.stage == stage][:8])
        raise InputError(f"nothing to {doing} has these ids", remedy=f"there are: {known or 'none'}, …")
    return chosen


def _perform(configs: list[Path] | None, stage: str, wanted: _Wanted, force: bool, shard: str | None = None) -> None:
    """Make the wanted cells of one stage, or a shard of each, leaving alone those whose files answer their recipe."""
    from gauntlet.config import load
    from gauntlet.pipeline.stages.outputs import sweep
    from gauntlet.pipeline.stages.torchrun import is_one_of_several, launch
    from gauntlet.pipeline.staleness import Plan, require_current_inputs

    config = load(_paths(configs))
    os.environ[SCRATCH] = config.execution.scratch
    chosen = _chosen(Plan(config), stage, wanted, doing=stage)
    if stage in ("figure", "table", "report") and not (stage == "figure" and wanted.name):
        _warn_of_stale(Plan(config), chosen)
    for cell in chosen:
        plan = Plan(config)
        if not force and plan.is_current(cell):
            log.info("%s: up to date", cell)
            sweep(cell)
            continue
        recipe = require_current_inputs(plan, cell)
        processes = plan.experiment(cell.experiment).training_of(cell.variant).gpus if stage == "train" else 1
        if processes > 1 and not is_one_of_several():
            ids = ["--experiment", cell.experiment, "--variant", cell.variant, "--seed", str(cell.seed)]
            again = ["--force"] if force else []
            launch([stage, *map(str, _paths(configs)), *ids, *again], processes, where=str(cell))
            continue
        module = importlib.import_module(f"gauntlet.pipeline.stages.{stage}")
        if shard is None:
            module.run(plan, cell, recipe)
        else:
            module.run_shard(plan, cell, recipe, shard)


def _warn_of_stale(plan: Plan, cells: Iterable[Cell]) -> None:
    """Say that cells that show results are made from results that an edit has overtaken."""
    read = dict.fromkeys(other for cell in cells for other in plan.upstream(cell))
    if stale := [str(cell) for cell in plan.unfinished(read)]:
        named = ", ".join(stale[:3]) + (", …" if len(stale) > 3 else "")
        log.warning("made from what is stale: %s; `snakemake` makes it anew", named)


def _limit_threads(threads: int | None) -> None:
    """Set the number of CPU threads before torch is loaded; the pools of all its libraries follow the variable."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["MKL_NUM_THREADS"] = str(threads)
