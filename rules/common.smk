# What rules say of their files and of their jobs, from the plan that the Snakefile made.
from functools import cache
from typing import get_args

from gauntlet.pipeline.cluster import fork_server
from gauntlet.pipeline.cluster.resources import ON_MODELS, RESOURCE_NAMES, JobResources
from gauntlet.config.grid import Stage
from gauntlet.pipeline.staleness import State
from gauntlet.pipeline.cluster.queue import snakemake_jobs
from gauntlet.pipeline.cluster.partitions import list_partitions
from gauntlet.pipeline.status.costs import Costs

STAGES = get_args(Stage)


def products(*stages, experiments=PLAN.config.full_forms):
    """Every file that the cells of some stages make, in the full forms of the experiments or in those named.

    A job is told which cells it makes, and needs no list of all.
    """
    if not workflow.is_main_process:
        return []
    return [
        str(path)
        for cell in PLAN.cells(experiments)
        if cell.stage in stages
        for path in paths.products(cell)
    ]


def quick_products(wildcards):
    """Every file of the quick forms; asked for only where they are the target."""
    if not PLAN.config.quick_forms:
        refuse(
            f"{' '.join(CONFIGS)}: no experiment has the key `quick`; docs/configuration.md says what it takes"
        )
    return products(*STAGES, experiments=PLAN.config.quick_forms)


def cell_of(stage, wildcards):
    """The cell that a job's wildcards name."""
    names = (
        wildcards.get(name) for name in ("dataset", "attack", "certificate", "figure")
    )
    ids = (
        wildcards.get("experiment", ""),
        wildcards.get("variant", ""),
        int(wildcards.get("seed", 0)),
    )
    cell = Cell(stage, *ids, next((name for name in names if name is not None), ""))
    if workflow.is_main_process and cell not in planned():
        refuse(
            f"{cell}: nothing in {' '.join(CONFIGS)} makes this; `gauntlet status --every` names what there is"
        )
    return cell


@cache
def planned():
    """Every cell that the configuration names."""
    return frozenset(PLAN.cells(PLAN.config.experiments))


def refuse(problem):
    """End with one line; what is raised within a rule's functions would be told with a traceback."""
    print(f"gauntlet: {problem}", file=sys.stderr)
    sys.exit(2)


def reads(stage, shards=False):
    """Make the input function of a stage: the files that a cell reads, and one of every other cell it waits for.

    A current cell's inputs are `ancient`: whatever happens upstream, it is not made again. Another's job is forced here,
    as it joins the graph; its inputs are plain, so that Snakemake also runs it after what it waits for. With `shards`
    it waits for the marks of the shards that its attack is split into, too.
    """

    def inputs(wildcards):
        cell = cell_of(stage, wildcards)
        read = PLAN.reads(cell)
        makers = set(read.values())
        waited = (one for one in PLAN.upstream(cell) if one not in makers)
        files = [*map(str, read), *(str(paths.products(one)[0]) for one in waited)]
        if not workflow.is_main_process:
            begin_job(stage)
            # Snakemake waits for files that a network file system shows late, if it is told of them.
            made = [paths.products(one) for one in PLAN.upstream(cell)]
            files = [str(path) for some in made for path in some]
        if not workflow.is_main_process or PLAN.state(cell) is State.CURRENT:
            return ancient(files)
        workflow.dag.forcefiles.add(str(paths.products(cell)[0]))
        return [*files, *(shard_marks(cell) if shards else [])]

    return inputs


def begin_job(stage):
    """Within a job, before it makes a cell of this stage."""
    # Cells that share a job go on when one of them fails; no option tells jobs so.
    workflow.execution_settings.keep_going = True
    if stage in ON_MODELS:
        load_libraries()


@cache
def load_libraries():
    """Let a process load them for all cells of this job; one cell alone loads them itself."""
    asked = PLAN.config.execution.cluster.preload
    if asked and len(workflow.dag_settings.target_jobs) > 1:
        fork_server.start(threads=1)


def shard_marks(cell):
    """The marks of an attack's shards; a single job has none to wait for."""
    count = shards_of(cell)
    if count == 1:
        return []
    folder = paths.samples(cell).parent
    marks = [f"{folder}/.shard-{number}-of-{count}" for number in range(1, count + 1)]
    # Marks that a killed run left say nothing of the present settings.
    workflow.dag.forcefiles.update(marks)
    return marks


def shards_of(cell):
    """Into how many jobs the work of a cell is split."""
    if cell.stage != "evaluate":
        return 1
    return PLAN.experiment(cell.experiment).attacks[cell.name].shards


def processes_of(cell):
    """How many processes share the work of a cell, each with a GPU where there is one."""
    if cell.stage != "train":
        return 1
    return PLAN.experiment(cell.experiment).training_of(cell.variant).gpus


@cache
def allocation():
    """What jobs ask for, decided once a run; jobs see the same partitions and need to know no durations."""
    there = list_partitions()
    if not there or not workflow.is_main_process:
        return JobResources(PLAN.config.execution, there, gpus=processes_of)
    return JobResources(
        PLAN.config.execution,
        there,
        seconds=Costs(PLAN).of,
        shards=shards_of,
        gpus=processes_of,
        group_sizes=workflow.group_settings.group_components,
        earlier_jobs=snakemake_jobs(),
    )


@cache
def asked(rule, cell, attempt, comment):
    """What one job asks for."""
    return allocation().of(cell, attempt, comment)


def asks(stage, rule):
    """Make the resource functions of a rule, by the names that Snakemake's plugin for SLURM knows."""

    def function(name):
        def value(wildcards, attempt):
            # As the plugin writes it beside the job, where a later controller finds it.
            comment = f"rule_{rule}_wildcards_" + "_".join(wildcards)
            return getattr(
                asked(rule, cell_of(stage, wildcards), attempt, comment), name
            )

        return value

    return {name: function(name) for name in RESOURCE_NAMES}


def company(stage):
    """Make the group function of a stage: what is short shares jobs, on a cluster; within a job there are no groups."""
    if not workflow.is_main_process or not list_partitions():
        return None

    def group(wildcards):
        cell = cell_of(stage, wildcards)
        return None if PLAN.state(cell) is State.CURRENT else allocation().group(cell)

    return group
