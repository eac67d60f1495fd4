# What rules say of their files, from the plan that the Snakefile made.
from gauntlet.planning import State


def products(*stages):
    """Every file that the cells of some stages make."""
    return [
        str(path)
        for cell in PLAN.cells()
        if cell.stage in stages
        for path in paths.products(cell)
    ]


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


def reads(stage):
    """Make the input function of a stage: the files that a cell reads, and the first file of every cell it waits for.

    A current cell's inputs are `ancient`: whatever happens upstream, it is not made again. Another's job is forced here,
    as it joins the graph; its inputs are plain, so that Snakemake also runs it after what it waits for.
    """

    def inputs(wildcards):
        cell = cell_of(stage, wildcards)
        makers = (paths.products(maker)[0] for maker in PLAN.upstream(cell))
        files = [str(path) for path in dict.fromkeys([*PLAN.reads(cell), *makers])]
        if not workflow.is_main_process or PLAN.state(cell) is State.CURRENT:
            return ancient(files)
        workflow.dag.forcefiles.add(str(paths.products(cell)[0]))
        return files

    return inputs
