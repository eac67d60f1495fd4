# Helpers of the rules: inputs, resources and groups of jobs, from the graph that the Snakefile made.
import inspect
from functools import cache

from snakemake import benchmark as benchmark_module
from snakemake_logger_plugin_gauntlet import LogHandler

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline import snakemake_options
from gauntlet.pipeline.cluster.gpu_sharing import computes_on_gpu, share_gpu
from gauntlet.pipeline.cluster.partitions import list_partitions
from gauntlet.pipeline.cluster.queue import snakemake_jobs
from gauntlet.pipeline.cluster.resources import RESOURCE_NAMES, JobResources
from gauntlet.pipeline.display.jobs import CellsJob
from gauntlet.pipeline.forcing import Forced
from gauntlet.pipeline.forking import launch
from gauntlet.pipeline.forking.client import SERVER_VARIABLE
from gauntlet.pipeline.stages.catalog import stage, stages
from gauntlet.pipeline.staleness import State
from gauntlet.pipeline.status.costs import Costs


def outputs_of(*names, experiments=GRAPH.config.full_forms):
    """List the files of some stages' cells, in the full forms of the experiments or in those named.

    A job is given its cells, and needs no list of all.
    """
    if not workflow.is_main_process:
        return []
    return [
        str(path)
        for cell in GRAPH.cells(experiments)
        if cell.stage.name in names
        for path in cell.outputs
    ]


def quick_outputs(wildcards):
    """List the files of the quick forms; evaluated only where they are the target."""
    if not GRAPH.config.quick_forms:
        refuse(
            f"{' '.join(CONFIGS)}: no experiment has the key `quick`; docs/configuration.md describes it"
        )
    return outputs_of(*STAGES, experiments=GRAPH.config.quick_forms)


def cell_of(name, wildcards):
    """Return the cell of a stage that a job's wildcards name."""
    begin_run()
    cell = stage(name).cell(wildcards)
    if workflow.is_main_process and cell not in all_cells():
        refuse(
            f"{cell}: no cell of {' '.join(CONFIGS)}; `gauntlet status --every` lists them"
        )
    return cell


@cache
def all_cells():
    """Collect every cell of the configuration."""
    return frozenset(GRAPH.cells())


def refuse(problem, code=2):
    """End with one line; Snakemake would show an exception in a rule's function with a traceback."""
    print(f"gauntlet: {problem}", file=sys.stderr)
    sys.exit(code)


def of_slurm(query):
    """Return the answer of SLURM to a query, or end with one line; a job submits none, and does without an answer."""
    try:
        return query()
    except GauntletError as error:
        if workflow.is_main_process:
            refuse(error, error.exit_code)
        return ()


@cache
def begin_run():
    """Check the options of a run, and return the cells that it makes again though they are current.

    Snakemake's main process passes these on to the jobs.
    """
    if not workflow.is_main_process:
        return Forced.from_environment()
    settings = workflow.dag_settings
    try:
        snakemake_options.check_run(
            touch=workflow.touch,
            # None where Snakemake only looks: --summary, --dag, --report.
            shadow_prefix=getattr(workflow.execution_settings, "shadow_prefix", None),
            omit_from=settings.omit_from,
            rules=RULES,
            components=workflow.group_settings.group_components,
            groups=[declared.group for declared in stages() if declared.group],
        )
    except GauntletError as error:
        refuse(error)
    names = set(settings.forcerun)
    if settings.forcetargets:
        names |= set(settings.targets) or {"all"}
    if settings.forceall:
        names.add("all")
    combined = {other for name in names & set(COMBINED) for other in COMBINED[name]}
    forced = Forced.begun_now(
        rules={rule for name in combined for rule in stage(name).rules}
        | names & set(RULES) - set(COMBINED),
        files=names - set(RULES),
    )
    forced.to_environment()
    return forced


@cache
def is_begun_anew(cell):
    """Return whether a current cell is forced, or a cell that it depends on is; its job then looks what is stale."""
    forced = begin_run()
    return bool(forced) and (
        forced.includes(cell) or any(map(is_begun_anew, GRAPH.upstream(cell)))
    )


def is_left_alone(cell):
    """Return whether nothing starts the job of a cell."""
    return STALENESS.state(cell) is State.CURRENT and not is_begun_anew(cell)


def with_signature(function):
    """Store the signature of a function, which Snakemake looks up for each job; Python would derive it each time."""
    function.__signature__ = inspect.signature(function)
    return function


def cell_inputs(name, shards=False):
    """Build the input function of a stage: the files that a cell reads, and one file of each other cell it waits for.

    The inputs of a current cell are `ancient`: whatever happens upstream, it is not made again. The job of any other
    cell is forced here, as it joins the graph; its inputs are plain, so that Snakemake also orders it after the cells
    it waits for. With `shards` it also waits for the marks of the shards that its attack is split into.
    """

    @with_signature
    def inputs(wildcards):
        cell = cell_of(name, wildcards)
        read = GRAPH.inputs(cell)
        makers = set(read.values())
        waits_for = [other for other in GRAPH.upstream(cell) if other not in makers]
        files = [*map(str, read), *(str(other.outputs[0]) for other in waits_for)]
        # A job may run its own rule only, and would run it for these files in place of its target. It waits for them
        # all the same, since its command names the inputs that are listed here.
        same_rule = [other for other in makers if other.stage is cell.stage]
        files += [
            str(path)
            for other in same_rule
            for path in other.outputs
            if path not in read
        ]
        if not workflow.is_main_process:
            begin_job(cell)
            # Snakemake waits for all these, in case a network file system shows them late.
            others = [other for other in GRAPH.upstream(cell) if other not in same_rule]
            files = [str(path) for other in others for path in other.outputs]
        if not workflow.is_main_process or is_left_alone(cell):
            return ancient(files)
        workflow.dag.forcefiles.add(str(cell.outputs[0]))
        return [*files, *(shard_marks(cell) if shards else [])]

    return inputs


@with_signature
def config_files(wildcards, input):
    """Return the configuration files for a command.

    The value of a function may have braces, which a text may not. A function that takes inputs is no trigger of
    Snakemake's: a file may be renamed.
    """
    return CONFIGS


def begin_job(cell):
    """Set up a job, before it makes a cell."""
    # Cells that share a job continue when one of them fails; no option of Snakemake's does that in jobs.
    workflow.execution_settings.keep_going = True
    if GRAPH.computes(cell):
        share_gpu_of_job()
    start_fork_servers()


@cache
def start_fork_servers():
    """Start a process per number of threads that loads the libraries once, for all cells of a local run or of a job.

    A job with one cell loads them itself.
    """
    is_shared = workflow.is_main_process or len(workflow.dag_settings.target_jobs) > 1
    if GRAPH.config.execution.preload and is_shared:
        launch.start(
            {job.threads for job in workflow.dag.needrun_jobs() if job.is_shell}
            if workflow.is_main_process
            else {1}
        )
        if SERVER_VARIABLE in os.environ:
            # Snakemake would sample the memory of each waiting command twice a second, for which it reads the whole
            # list of processes; the duration needs no samples.
            benchmark_module.BENCHMARK_INTERVAL_SHORT = (
                benchmark_module.BENCHMARK_INTERVAL
            )


@cache
def share_gpu_of_job():
    """Let this job compute several of its cells at once on its GPU; a job otherwise makes one after another."""
    cells = min(requests().slots, len(workflow.dag_settings.target_jobs))
    if cells > 1 and requests().uses_gpus:
        workflow.register_resource("_nodes", cells)
        share_gpu(cells)


def share_local_gpu():
    """Let the cells of a local run share this machine's GPU, before the first one starts."""
    if computes_on_gpu(GRAPH.config.execution.device):
        share_gpu(requests().slots)


def shard_marks(cell):
    """List the marks of a cell's shards; a single job has none to wait for."""
    count = GRAPH.shards(cell)
    if count == 1:
        return []
    folder = cell.outputs[0].parent
    marks = [f"{folder}/.shard-{number}-of-{count}" for number in range(1, count + 1)]
    # Marks of a killed run do not concern the present settings.
    workflow.dag.forcefiles.update(marks)
    return marks


def uses_cluster():
    """Return whether this run, or the one that a dry run shows, submits jobs; a local one asks nothing of SLURM.

    While the rules are read, Snakemake has not set its executor; `--jobs` may then be that of a local run.
    """
    if not workflow.is_main_process or workflow.resource_settings.nodes is None:
        return not workflow.is_main_process
    if workflow.dryrun:
        # Set for executors that submit jobs, of which a dry run knows nothing else.
        return workflow.execution_settings.use_threads
    return workflow.executor_plugin is None or not workflow.local_exec


@cache
def requests():
    """Decide what jobs request, once a run; jobs see the same partitions and need no durations."""
    available = of_slurm(list_partitions) if uses_cluster() else ()
    if not available or not workflow.is_main_process:
        return JobResources(
            GRAPH.config.execution,
            available,
            gpus=GRAPH.processes,
            computes=GRAPH.computes,
            defaults=snakemake_options.plain_defaults(DEFAULT_RESOURCES),
            local_gpu=(
                None
                if uses_cluster()
                else computes_on_gpu(GRAPH.config.execution.device)
            ),
        )
    return JobResources(
        GRAPH.config.execution,
        available,
        seconds=Costs(STALENESS).of,
        shards=GRAPH.shards,
        gpus=GRAPH.processes,
        computes=GRAPH.computes,
        group_sizes=workflow.group_settings.group_components,
        earlier_jobs=of_slurm(snakemake_jobs),
        defaults=snakemake_options.plain_defaults(DEFAULT_RESOURCES),
    )


def prepare_submission():
    """Check that jobs can be submitted, before the first one is."""
    require_sbatch()
    cluster = GRAPH.config.execution.cluster
    for name in unlisted_partitions(cluster.partition, cluster.gpu_partition):
        print(
            f"gauntlet: sinfo lists no partition '{name}'; sbatch decides",
            file=sys.stderr,
        )
    names = [os.getcwd(), workflow.main_snakefile]
    snakemake_options.check_paths(names)
    if snakemake_options.need_script([*names, *CONFIGS]):
        workflow.executor_settings.pass_command_as_script = True


def describe_run():
    """Pass the cells of this run to the display, where that is the logger."""
    jobs = [
        (job, CellsJob.of(job.rule.name, job.wildcards_dict))
        for job in workflow.dag.jobs
    ]
    to_run = [made for job, made in jobs if made and workflow.dag.needrun(job)]
    current = sum(made is not None for _, made in jobs) - len(to_run)
    for handler in workflow.logger_manager.get_log_handlers():
        if isinstance(handler, LogHandler):
            handler.describe(
                to_run, current, cost=Costs(STALENESS).of, upstream=GRAPH.upstream
            )


@cache
def resources_of(cell, attempt, comment):
    """Return the resources that one job requests."""
    return requests().of(cell, attempt, comment)


def job_resources(name, rule):
    """Build the resource functions of a rule, by the names that Snakemake's plugin for SLURM uses."""

    def function(resource):
        @with_signature
        def value(wildcards, attempt):
            # The comment that the plugin gives the job, by which a later controller finds it.
            comment = f"rule_{rule}_wildcards_" + "_".join(wildcards)
            return getattr(
                resources_of(cell_of(name, wildcards), attempt, comment), resource
            )

        return value

    functions = {resource: function(resource) for resource in RESOURCE_NAMES}
    if GRAPH.config.execution.cluster.memory_mb is None:
        # `mem_mb` takes numbers only; without either name Snakemake would set a default.
        functions |= {"mem": None}
        del functions["mem_mb"]
    return functions


def job_group(name):
    """Build the group function of a stage: short cells share jobs on a cluster; within a job there are no groups."""
    if not workflow.is_main_process or not uses_cluster():
        return None

    @with_signature
    def group(wildcards):
        cell = cell_of(name, wildcards)
        shares_jobs = (
            uses_cluster() and of_slurm(list_partitions) and not is_left_alone(cell)
        )
        return requests().group(cell) if shares_jobs else None

    return group
