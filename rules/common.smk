# What rules say of their files, from the plan that the Snakefile made.
from typing import get_args

from snakemake.exceptions import WorkflowError

from gauntlet.config.grid import Stage
from gauntlet.planning import State

STAGES = get_args(Stage)


def products(*stages, experiments=PLAN.config.full_forms):
    """Every file that the cells of some stages make, in the full forms of the experiments or in those named."""
    return [
        str(path)
        for cell in PLAN.cells(experiments)
        if cell.stage in stages
        for path in paths.products(cell)
    ]


def quick_products(wildcards):
    """Every file of the quick forms; asked for only where they are the target."""
    if not PLAN.config.quick_forms:
        raise WorkflowError(
            f"{' '.join(CONFIGS)}: no experiment has the key `quick`; docs/configuration.md says what it takes"
        )
    return products(*STAGES, experiments=PLAN.config.quick_forms)


def cell_of(stage, wildcards):
    """The cell that a job's wildcards name."""
    probes = (
        wildcards.get(name) for name in ("dataset", "attack", "certificate", "figure")
    )
    ids = (
        wildcards.get("experiment", ""),
        wildcards.get("variant", ""),
        int(wildcards.get("seed", 0)),
    )
    return Cell(stage, *ids, next((probe for probe in probes if probe is not None), ""))


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
        if not workflow.is_main_process or PLAN.state(cell) is State.CURRENT:
            return ancient(files)
        workflow.dag.forcefiles.add(str(paths.products(cell)[0]))
        return [*files, *(shard_marks(cell) if shards else [])]

    return inputs


def shard_marks(cell):
    """The marks of an attack's shards; a single job has none to wait for."""
    count = PLAN.experiment(cell.experiment).attacks[cell.probe].shards
    if count == 1:
        return []
    folder = paths.samples(cell).parent
    marks = [f"{folder}/.shard-{number}-of-{count}" for number in range(1, count + 1)]
    # Marks that a killed run left say nothing of the present settings.
    workflow.dag.forcefiles.update(marks)
    return marks
