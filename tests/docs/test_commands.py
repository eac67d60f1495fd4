"""Every command in the documents is run here on a small experiment, or by another test named here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import gauntlet
from gauntlet.cli import app
from gauntlet.registry.source_code import locate, module_file, syntax_tree
from tests.support import ROOT
from tests.support.workflow import link_workflow, run_snakemake

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PROGRAMS = ("gauntlet", "snakemake", "make", "python", "srun", "sbatch", "sinfo", "squeue", "scontrol", "tmux")

SMALL = """
experiments:
  digits:
    dataset: {source: sklearn_digits, limit: {train: 200, test: 20}}
    seeds: [0]
    diagnostics: {samples: 8, steps: 2}
    training: {epochs: 1}
    variants:
      "{head}": {axes: {head: [softmax]}, model: {name: cnn, widths: [4], head: "{head}"}}
      lipschitz: {model: lipschitz_cnn, loss: hkr}
    attacks:
      fgsm: {name: fgsm, norm: linf, epsilons: [0.1]}
    certificates:
      lipschitz: {name: lipschitz}
    published:
      reference: A paper
      numbers:
        softmax: {clean: 90, fgsm: 50}
        lipschitz: {kr: 1.5, validation_accuracy: 80, epoch: 1, lipschitz@0.1: 20}
    quick: {variants: {lipschitz: null}, certificates: null}
"""

STAGES = ("check", "status", "prepare", "train", "predict", "evaluate", "certify", "diagnose", "inspect", "aggregate")
ORDER = (*STAGES, "figures", "tables", "effects", "published", "report")

ELSEWHERE = {
    r"gauntlet submit\b.*": "tests/pipeline/cluster/test_controller.py",
    r"gauntlet (init|run)\b.*": "tests/cli/test_project.py",
    r"gauntlet figures .*mine:clean_bars.*": "tests/docs/test_extending_page.py",
    r"snakemake --profile slurm\b.*": "tests/pipeline/cluster/test_workflow.py",
    r"snakemake$": "tests/pipeline/planning/test_snakemake.py",
    r"srun --gpus=1 .*gauntlet predict": "tests/pipeline/status/test_predictions.py",
    r"srun --nodes=2 .*": "tests/pipeline/cluster/test_resources.py",
    r"python -m gauntlet\.config\.reference .*": "tests/docs/test_docs.py",
    r"python -m gauntlet\.config\.attack_table .*": "tests/docs/test_readme.py",
    r"python -m gauntlet\.reporting\.kept_results\b.*": "tests/reporting/tables/test_kept_results.py",
    r"python -m gauntlet\.reporting\.results_page .*": "tests/docs/test_results_page.py",
    r"make (run|test|setup|check|lock)\b.*": ".ci/run",
    r"make bench .*": "tests/docs/test_benchmarks.py",
    r"make light": "tests/reporting/test_light.py",
    r"make gpu": "tests/docs/test_gpu_page.py",
}
"""Files that run commands which this module does not run."""

OF_THE_CLUSTER = ("sinfo", "squeue", "scontrol", "tmux")
"""Programs of the cluster and the terminal."""


def commands() -> list[str]:
    """List the commands in all documents, without trailing explanations."""
    found: dict[str, None] = {}
    program = "|".join(PROGRAMS)
    for path in DOCUMENTS:
        text = path.read_text()
        blocks = re.sub(r"```(?:python|yaml).*?```", "", text, flags=re.DOTALL).replace("\\\n", " ")
        lines = re.findall(rf"^ {{4,}}((?:{program}) .*)$", blocks, flags=re.MULTILINE)
        quoted = re.findall(rf"`((?:{program})(?: [^`]*)?)`", blocks.replace("\n", " "))
        for line in (*lines, *quoted):
            for command in re.sub(r"\s#.*|\s{2,}\S.*|[.,;:]$", "", line).split("&&"):
                found[command.strip()] = None
    return [one for one in found if " " in one]


COMMANDS = commands()


def is_run_elsewhere(command: str) -> bool:
    """Return whether another test runs a command, or it belongs to the cluster."""
    return command.startswith(OF_THE_CLUSTER) or any(re.fullmatch(pattern, command) for pattern in ELSEWHERE)


def commands_of(program: str) -> list[str]:
    """List the commands of a program that this module runs."""
    return [one for one in COMMANDS if one.split()[0] == program and not is_run_elsewhere(one)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone with an experiment of seconds."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / "config.yaml").write_text(SMALL)
    (clone / "experiments").symlink_to(ROOT / "experiments")
    link_workflow(clone)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        for known in (module_file, locate, syntax_tree):
            known.cache_clear()
        yield clone


def test_every_command_is_run_by_a_test():
    """Commands not run here are listed with an existing file that runs them."""
    assert len(COMMANDS) > 50
    ours = [one for program in ("gauntlet", "snakemake", "python") for one in commands_of(program)]
    assert [one for one in COMMANDS if not is_run_elsewhere(one) and one not in ours] == []
    # Files are started with `--help` below; modules are run by the tests that know their arguments.
    assert [one for one in commands_of("python") if not (ROOT / one.split()[1]).is_file()] == []
    assert [file for file in ELSEWHERE.values() if not (ROOT / file).exists()] == []
    unused = [one for one in ELSEWHERE if one != r"snakemake$" and not any(re.fullmatch(one, c) for c in COMMANDS)]
    assert unused == []


def arguments_of(command: str) -> list[str]:
    """Replace a document's placeholders with names of the small experiment."""
    text = re.sub(r"\[[^]]*\]", "", command)
    names = {"FILE": "config.yaml", "EXPERIMENT": "digits", "VARIANT": "softmax", "ATTACK": "fgsm", "STAGE": "prepare"}
    for placeholder, name in names.items():
        text = re.sub(rf"\b{placeholder}\b", name, text)
    text = re.sub(r"(?<= )evaluations\.parquet", "results/digits/evaluations.parquet", text)
    return shlex.split(text)


@pytest.mark.slow
def test_commands_of_the_package_run(folder):
    """Commands of the package run in the order of stages, `--watch` last."""
    every = [
        list(words) for words in dict.fromkeys(tuple(arguments_of(command)) for command in commands_of("gauntlet"))
    ]
    every += [["gauntlet", stage] for stage in ORDER if stage not in {words[1] for words in every}]
    last = [words for words in every if "--watch" in words]
    for words in every:
        if words[1] == "figures" and len(words) > 2:
            # All figures are drawn once, by the command without options.
            words += ["--name", "heat_map"]
    for words in [*sorted((one for one in every if one not in last), key=lambda one: ORDER.index(one[1])), *last]:
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
    assert (folder / "figures" / "heat_map.pdf").is_file()
    assert (folder / "tables" / "table.tex").is_file()
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_the_readme_loads_a_model_of_the_results(folder):
    """The README's call of `load_model` returns a network that can be evaluated."""
    for stage in ("prepare", "train"):
        assert CliRunner().invoke(app, [stage]).exit_code == 0
    call = re.search(r"`gauntlet\.load_model\(\"(.*?)\"\)`", (ROOT / "README.md").read_text())[1]
    network = gauntlet.load_model(call)
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    assert network(images).shape == (4, 10)
    assert gauntlet.evaluate(network, images, labels, {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}).num_rows == 4


@pytest.mark.slow
def test_commands_of_snakemake_run(folder):
    """Commands of Snakemake run; those for other experiments are only planned."""
    shown = {command: arguments_of(command)[1:] for command in commands_of("snakemake")}
    assert len(shown) >= 5
    for command, words in shown.items():
        assert words[:2] == ["--profile", "local"], command
        run_snakemake(folder, *words[2:], *(["-n"] if {"quick", "--configfile"} & set(words) else []))


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted({command.split()[1] for command in commands_of("python")}))
def test_benchmarks_take_the_documented_options(script):
    """Each benchmark starts and lists the options that documents give."""
    options = {
        word
        for one in commands_of("python")
        if one.split()[1] == script
        for word in one.split()
        if word.startswith("--")
    }
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert [word for word in options if word not in done.stdout] == []


def test_targets_of_make_exist():
    """Make targets in documents exist in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {command.split()[1] for command in COMMANDS if command.startswith("make ")} <= targets
