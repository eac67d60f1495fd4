"""The `gauntlet` command: every declared stage as a sub-command, and what concerns a whole run."""

from __future__ import annotations

import importlib
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from gauntlet.core.errors import GauntletError, InputError, InputErrors, shortened
from gauntlet.core.signals import orderly_exit
from gauntlet.core.user_modules import find_user_modules_last
from gauntlet.pipeline.stage import FromResults, Stage
from gauntlet.pipeline.stages.catalog import stages

log = logging.getLogger("gauntlet")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One configuration file in; models, attacks, certificates, statistics, figures and a report out.",
)

Configs = Annotated[list[Path] | None, typer.Argument(help="configuration files (default: config.yaml)")]
Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="configuration files (default: config.yaml), or one evaluations.parquet alone"),
]
ExperimentOption = Annotated[
    str | None, typer.Option("--experiment", help="only this experiment; without it all but the quick forms")
]
VariantOption = Annotated[str | None, typer.Option("--variant", help="only this variant")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="only this training seed")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; results depend on it by rounding")
]
ForceOption = Annotated[bool, typer.Option("--force", help="do it again even where nothing is stale")]
ShardOption = Annotated[
    str | None, typer.Option("--shard", help="only this share of the samples, as I/N; the whole gathers them")
]

_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that passes its arguments on to Snakemake."""


class _PassesOn(TyperCommand):
    """A command that passes its arguments on to Snakemake, where those after ``--`` are targets."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the targets first: the parser drops ``--``, and the option before it would take them as its values."""
        count = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:count])
        ctx.args = [*args[count + 1 :], *ctx.args]
        return list(ctx.args)


_IDS: dict[str, Any] = {"experiment": ExperimentOption, "variant": VariantOption, "seed": SeedOption}


def _show_version(is_requested: bool) -> None:
    if is_requested:
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
    """Set up logging for the sub-command."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING if quiet else logging.INFO)
    # Matplotlib embeds fonts through a library that logs every table of every font.
    logging.getLogger("fontTools").setLevel(logging.WARNING)


@app.command()
def check(
    configs: Configs = None,
    show: Annotated[
        str | None, typer.Option("--show", help="only print this variant as YAML, as if it was written out")
    ] = None,
    power: Annotated[
        float | None,
        typer.Option("--power", help="also: how many seeds show a difference of so many points of accuracy"),
    ] = None,
) -> None:
    """Check configuration files: every error with its path in the file, exit 2; nothing is written.

    Counts the cells of each experiment, and shows each grid with its levels and variants, and each choice.
    """
    from gauntlet.config import load
    from gauntlet.config.grids.description import grid_table
    from gauntlet.config.many_classes import class_costs
    from gauntlet.config.quick import quick_name
    from gauntlet.config.sources import placed
    from gauntlet.config.written_variants import written_variants
    from gauntlet.pipeline.graph import Graph
    from gauntlet.pipeline.stage import Scope
    from gauntlet.pipeline.stages.prepare.declaration import prepared_classes, source_problem
    from gauntlet.pipeline.stages.train.declaration import missing_weights

    files = _paths(configs)
    graph = Graph(load(files))
    if show is not None:
        for text in written_variants(graph.config, files, show):
            typer.echo(text)
        return
    scopes = {name: Scope(name, graph.config) for name in graph.config.experiments}
    missing = {
        name: [error for error in (source_problem(scope), *missing_weights(scope)) if error]
        for name, scope in scopes.items()
    }
    for full in graph.config.full_forms:
        # A quick form usually has the files of its full form, which are reported there.
        known = {error.problem for error in missing[full]}
        quick = missing.get(quick_name(full), [])
        quick[:] = [error for error in quick if error.problem not in known]
    if absent := [error for errors in missing.values() for error in errors]:
        raise InputErrors(placed(absent, files))
    for name in graph.config.experiments:
        names = [cell.stage.name for cell in graph.cells_of(name)]
        on_models = [stage.name for stage in stages() if stage.uses_model]
        typer.echo(f"{name}: {', '.join(f'{names.count(stage)} {stage}' for stage in on_models)}")
        settings = graph.config.experiments[name]
        for grid in settings.grids:
            typer.echo("".join(f"  {line}\n" for line in grid_table(grid)), nl=False)
        for variant, choice in settings.choices.items():
            candidates = shortened(choice.chosen_from, most=12)
            typer.echo(f"  {variant}: the best of {candidates} by {choice.by}, {choice.over}")
        for warning in class_costs(settings, prepared_classes(settings.dataset)):
            typer.echo(f"{name}: warning: {warning}", err=True)
    if power is not None:
        from gauntlet.pipeline.status.power import power_text

        typer.echo(power_text(graph.config, power))


@app.command()
def status(
    configs: Configs = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs; docs/status.md describes it")] = False,
    every: Annotated[bool, typer.Option("--every", help="name every cell, not only the first few of a kind")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="also quick forms that were not begun")] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="a live table of variants and attacks until all is done; Ctrl-C ends it")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="seconds between updates of --watch")] = 5.0,
) -> None:
    """Show the state of a run: what is done, stale, missing or failed, why, and what finishing it costs."""
    import json

    from rich.console import Console

    from gauntlet.config import load
    from gauntlet.pipeline.staleness import Staleness
    from gauntlet.pipeline.status.display import print_status
    from gauntlet.pipeline.status.json_status import status_as_dict
    from gauntlet.pipeline.status.run_status import collect_status

    if watching:
        from gauntlet.pipeline.status.watching import watch

        if as_json or every:
            raise InputError("--watch shows one table", remedy="leave out --json and --every")
        watch(lambda: Staleness.of(load(_paths(configs))), Console(), interval_s=interval, quick=quick)
        return
    run = collect_status(Staleness.of(load(_paths(configs))), quick=quick)
    if as_json:
        typer.echo(json.dumps(status_as_dict(run), indent=1, ensure_ascii=False))
    else:
        print_status(run, Console(), every=every)


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
    """Try each attack on a few samples of its model and predict its duration; no result is written."""
    _limit_threads(threads)
    from gauntlet.config import load
    from gauntlet.pipeline.predict import predict_all
    from gauntlet.pipeline.run_stage import Selection
    from gauntlet.pipeline.stages.evaluate.declaration import STAGE
    from gauntlet.pipeline.staleness import Staleness
    from gauntlet.pipeline.status.display import format_predictions

    staleness = Staleness.of(load(_paths(configs)))
    cells = Selection(experiment, variant, seed, attack).cells(staleness.graph, STAGE, doing="predict")
    unfinished = [cell for cell in cells if force or not staleness.is_current(cell)]
    predictions = predict_all(staleness, unfinished, batch=samples)
    typer.echo(format_predictions(predictions, done=len(cells) - len(unfinished)))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="where config.yaml is written; made if it is missing")] = Path(),
) -> None:
    """Write a configuration to begin with, the default experiment, into a folder of your own."""
    from gauntlet.pipeline.project import begin

    typer.echo(f"{begin(folder)}: edit it, check it with `gauntlet check`, and run it there with `gauntlet run`")


@app.command(cls=_PassesOn, context_settings=_PASSED_ON)
def run(context: typer.Context) -> None:
    """Run `snakemake` with the same arguments and the workflow of this package, in any folder.

    The profile is `--profile local` if none is named.
    """
    from gauntlet.pipeline.project import snakemake_command, with_profile
    from gauntlet.pipeline.snakemake_arguments import check_arguments

    check_arguments(context.args)
    command = snakemake_command(with_profile(context.args, "local"))
    # Snakemake takes the place of this process, and with it its signals and its exit code.
    os.execv(command[0], command)


@app.command(cls=_PassesOn, context_settings=_PASSED_ON)
def submit(
    context: typer.Context,
    show_state: Annotated[
        bool, typer.Option("--status", help="show the state of the controller submitted from this folder")
    ] = False,
    cancelling: Annotated[
        bool, typer.Option("--cancel", help="cancel it and the jobs of its cells; what is finished is kept")
    ] = False,
    freezing: Annotated[
        bool, typer.Option("--freeze", help="run from a copy of code and configuration, which may be edited meanwhile")
    ] = False,
) -> None:
    """Run `snakemake` with the same arguments as a SLURM job, which requeues itself before its time limit.

    The profile is `--profile slurm` if none is named.
    """
    from gauntlet.pipeline.cluster.controller import submission

    arguments = context.args
    if (show_state or cancelling) and (arguments or freezing or (show_state and cancelling)):
        raise InputError(
            "--status and --cancel take no other argument", remedy="both concern what was submitted from this folder"
        )
    if show_state:
        typer.echo(submission.controller_status() or "no controller was submitted from this folder")
    elif cancelling:
        typer.echo(f"cancelled: {', '.join(submission.cancel()) or 'nothing, there was no job'}")
    else:
        sent = submission.submit(arguments, is_frozen=freezing)
        typer.echo(f"controller: job {sent.job}, log {sent.log}; gauntlet submit --status, or --cancel")


def stage_command(stage: Stage) -> Callable[..., None]:
    """Build the sub-command of a stage: its ids as options, and what its declaration adds to them."""
    results = stage.from_results
    parameters = [_parameter("configs", Sources if results else Configs, None)]
    parameters += [_parameter(name, _IDS.get(name) or _name_option(stage), None) for name in _options(stage)]
    if stage.shardable:
        parameters.append(_parameter("shard", ShardOption, None))
    if results:
        # None if an option is not given, which a configuration requires.
        parameters += [_parameter(name, _results_option(name, usual), None) for name, usual in results.only.items()]
    if stage.uses_model:
        parameters.append(_parameter("threads", ThreadsOption, None))
    parameters.append(_parameter("force", ForceOption, False))

    def command(**values: Any) -> None:
        _limit_threads(values.get("threads"))
        configs = values.pop("configs") or []
        if results and any(file.suffix == ".parquet" for file in configs):
            _run_from_results(results, configs, values)
            return
        for name in results.only if results else ():
            if values[name] is not None:
                problem = f"--{name} {values[name]} is for a results file alone"
                raise InputError(problem, remedy="name an evaluations.parquet in place of a configuration")
        from gauntlet.pipeline.run_stage import Selection, run_stage

        ids = (values.get(name) for name in ("experiment", "variant", "seed", stage.key))
        run_stage(stage, Selection(*ids), configs=configs, force=values["force"], shard=values.get("shard"))

    command.__doc__ = stage.help
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _options(stage: Stage) -> list[str]:
    """List the ids that a stage's command has options for; a shared cell is also found by its experiment."""
    return list(dict.fromkeys(["experiment", *stage.ids]))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _name_option(stage: Stage) -> Any:
    kind = stage.name if stage.key == "name" else stage.key
    return Annotated[str | None, typer.Option(f"--{stage.key}", help=f"only this {kind}")]


def _results_option(name: str, default: str) -> Any:
    if name == "out":
        help_text = "where what is made from one results file goes"
        return Annotated[Path | None, typer.Option("--out", help=help_text, show_default=default)]
    help_text = f"{name} of what is made from one results file"
    return Annotated[str | None, typer.Option(f"--{name}", help=help_text, show_default=default)]


def _run_from_results(results: FromResults, files: list[Path], values: dict[str, Any]) -> None:
    """Do a stage's work on one results file, and print the files that were written."""
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    for name in given:
        if name not in results.only and name not in results.options:
            problem = f"--{name} has no effect on a results file"
            raise InputError(problem, remedy="leave it out, or name a configuration in place of the file")
    if len(files) > 1:
        problem = f"{shortened(files)}: a results file is read alone"
        raise InputError(problem, remedy="run the command once for each")
    module, _, function = results.function.partition(":")
    options = {name: given.get(name, default) for name, default in results.options.items()}
    out = Path(given.get("out", results.out))
    for path in getattr(importlib.import_module(module), function)(files[0], out, **options):
        typer.echo(path)


for _stage in stages():
    app.command(_stage.command)(stage_command(_stage))


@cache
def _command() -> Callable[[], None]:
    """Return the command with its sub-commands and their options."""
    return typer.main.get_command(app)


def fill_caches() -> None:
    """Build the command, so that forks of this process need not."""
    _command()


def main() -> None:
    """Run the command; what a user can fix is one line on standard error, never a traceback."""
    # A user's own classes are named by import path, relative to the folder where the command is run.
    find_user_modules_last()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name may have letters that the encoding of the user's locale lacks.
        sys.stdout.reconfigure(errors="replace")
    try:
        with orderly_exit():
            _command()()
    except GauntletError as error:
        for line in str(error).splitlines():
            print(f"gauntlet: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"gauntlet: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _paths(configs: list[Path] | None) -> list[Path]:
    return configs or [Path("config.yaml")]


def _limit_threads(threads: int | None) -> None:
    """Set the number of CPU threads before torch is loaded; the pools of all its libraries follow the variable."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["MKL_NUM_THREADS"] = str(threads)
