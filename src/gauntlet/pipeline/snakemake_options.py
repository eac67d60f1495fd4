"""Options of Snakemake that would have no effect on this workflow, each refused with what to do instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gauntlet.config.yaml_file import check_name
from gauntlet.core.errors import InputError, InputErrors, nearest

_KEYS_OF_RESOURCES = {
    "mem": "`memory_mb` under `execution: cluster:`",
    "mem_mb": "`memory_mb` under `execution: cluster:`",
    "runtime": "`minutes` under `execution: cluster:`",
    "gpu": "`device: cuda` under `execution:`",
    "gpu_model": "`gpu_model` under `execution: cluster:`",
}
"""Resources that the configuration always sets, and the key of each, in words."""

_PLAIN_DEFAULTS = ("slurm_account", "slurm_partition", "slurm_extra", "constraint", "qos")
"""Resources that the configuration may leave open; `--default-resources` then decides."""

_UNUSED = {
    "--consider-ancient": "what is stale is decided by content, never by time stamps",
    "--set-scatter": "no rule scatters; `shards` of an attack splits its samples",
}
"""Options that nothing in the workflow reads, and why."""

_SHELL_SIGNS = re.compile(r"[$`\\]")


def check_settings(
    *,
    config: Mapping[str, object],
    default_resources: Mapping[str, str],
    resources_of_rules: Iterable[str],
    threads_of_rules: Iterable[str],
    rules: Sequence[str],
    unused: Iterable[str] = (),
) -> None:
    """Check the options that are known when Snakemake reads the workflow.

    `config` is what `--config` sets, `default_resources` what `--default-resources` does, as text. `rules` are the
    names of all rules; `resources_of_rules` and `threads_of_rules` are those that `--set-resources` and
    `--set-threads` name. `unused` are further options that were set, and that nothing in the workflow reads.

    Raises InputErrors with a line per option that has no effect.
    """
    problems = [*_config_problems(config), *_default_problems(default_resources)]
    problems += [InputError(_UNUSED[option], where=f"snakemake {option}", remedy="leave it out") for option in unused]
    named = {"--set-resources": resources_of_rules, "--set-threads": threads_of_rules}
    problems += [problem for option, names in named.items() for problem in _unknown(option, names, rules)]
    _raise(problems)


def check_run(
    *,
    touch: bool,
    shadow_prefix: Path | None,
    omit_from: Iterable[str],
    rules: Sequence[str],
    components: Iterable[str] = (),
    groups: Sequence[str] = (),
) -> None:
    """Check the options that are known when a run is planned. Raises InputErrors with a line per problem.

    `components` are the job groups that `--group-components` names, `groups` those that jobs have.
    """
    problems = []
    if touch:
        remedy = "what is current is recognized by content, and what is stale has to be made: leave the option out"
        problems.append(InputError("time stamps decide nothing here", where="snakemake --touch", remedy=remedy))
    if shadow_prefix is not None:
        remedy = "`execution: scratch:` names a node's disk, where files are written first"
        problems.append(InputError("no rule has shadow folders", where="snakemake --shadow-prefix", remedy=remedy))
    names = [name for name in omit_from if "/" not in name]
    unknown_groups = _unknown("--group-components", components, groups, kind="job group")
    _raise([*problems, *_unknown("--omit-from", names, rules), *unknown_groups])


def plain_defaults(default_resources: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults for resources that the configuration may leave open, without quotes around their text."""
    return {name: _text(raw) for name, raw in default_resources.items() if name in _PLAIN_DEFAULTS}


def check_folders(folder: str, workflow_folder: str) -> None:
    """Check the working folder, and that of the workflow. Raises InputError for names that Snakemake cannot use."""
    check_name(Path(folder))
    if re.search(r"[{}]", workflow_folder):
        problem = "Snakemake cannot use a workflow in a folder with braces in its name"
        raise InputError(problem, where=workflow_folder, remedy="rename the folder")


def check_paths(paths: Iterable[str]) -> None:
    """Check folders and files that become part of job scripts. Raises InputErrors for those that cannot be quoted."""
    # Snakemake quotes as Python does, which shells read alike unless both kinds of quotes are needed.
    _raise(
        [
            InputError("this name cannot be passed to a job", where=path, remedy="rename it, without \\ or ' next to $")
            for path in paths
            if "\\" in path or ("'" in path and _SHELL_SIGNS.search(path))
        ]
    )


def need_script(paths: Iterable[str]) -> bool:
    """Return whether a job's command has names that the plugin's quotes around it do not keep."""
    return any(_SHELL_SIGNS.search(path) for path in paths)


def rejections(log: str) -> list[str]:
    """List the messages of `sbatch` in Snakemake's log, each once."""
    found = re.findall(r"SLURM sbatch failed\. The error message was '(.*?)'\.\n", log, flags=re.DOTALL)
    return list(dict.fromkeys(" ".join(message.split()) for message in found))


def _config_problems(config: Mapping[str, object]) -> Iterator[InputError]:
    for key in config:
        remedy = "write it into a file, and name the file with `--configfile`"
        yield InputError("settings come from configuration files", where=f"snakemake --config {key}", remedy=remedy)


def _default_problems(default_resources: Mapping[str, str]) -> Iterator[InputError]:
    for name, raw in default_resources.items():
        where = f"snakemake --default-resources {name}"
        if name in _KEYS_OF_RESOURCES:
            remedy = f"set {_KEYS_OF_RESOURCES[name]}"
            yield InputError("every rule sets this resource from the configuration", where=where, remedy=remedy)
        elif name in _PLAIN_DEFAULTS and _text(raw) == raw and re.search(r"[()]|\bif\b", raw):
            yield InputError("expected a plain value, got an expression", where=where, remedy="set a text")


def _text(raw: str) -> str:
    """Return the text that a value on the command line is, in quotes or not."""
    try:
        value = ast.literal_eval(raw)
    except (ValueError, SyntaxError):
        return raw
    return value if isinstance(value, str) else raw


def _unknown(option: str, names: Iterable[str], known: Sequence[str], *, kind: str = "rule") -> list[InputError]:
    return [
        InputError(f"no {kind} '{name}'", where=f"snakemake {option}", remedy=nearest(name, known))
        for name in dict.fromkeys(names)
        if name not in known
    ]


def _raise(problems: Sequence[InputError]) -> None:
    if problems:
        raise InputErrors(problems)
