"""Names of files and folders, and settings of the cluster, as they reach `sbatch`; nothing is run by a real SLURM."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paper_cluster import paper_cluster
from tests.support.workflow import ROOT, TINY, link_workflow
from tests.support.yaml_text import dump_yaml

NAMES = ("my config.yaml", "a'b\".yaml", "$(touch hacked).yaml", "ä;{x}&.yaml", "-x.yaml")
"""Configuration files, each with an experiment of its own."""

FOLDER = "my $HOME; (`id`) {y}"

ERROR = "sbatch: error: invalid partition specified: nope"


def write_configs(folder, cluster):
    """Write one experiment per file."""
    for number, name in enumerate(NAMES):
        config = copy.deepcopy(TINY)
        small = config["experiments"].pop("small")
        small |= {"attacks": {}, "certificates": {}, "diagnostics": {"enabled": False}}
        small["variants"] = {"softmax": {"model": "cnn"}}
        config["experiments"][f"e{number}"] = small
        config |= {"execution": {"cluster": cluster}} if number == 0 else {}
        (folder / name).write_text(dump_yaml(config))


def run(cluster, folder, *arguments):
    """Run Snakemake with the SLURM profile until all models are made or a job has failed."""
    files = ["--configfile", *(f"./{name}" for name in NAMES)]
    workflow = ["-s", ROOT / "workflow/Snakefile", "--profile", ROOT / "profiles/slurm", "--retries", "0"]
    command = [Path(sys.executable).with_name("snakemake"), *workflow, "models", *files]
    poll = ["--slurm-init-seconds-before-status-checks", "1"]
    environment = cluster.environment()
    return subprocess.run(
        [*command, *poll, *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=1200
    )


def test_names_and_options_reach_sbatch_and_its_error_is_one_line(tmp_path):
    """No shell on the way expands a name; a partition that `sinfo` does not list is left to `sbatch`."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    write_configs(folder, {"partition": "nope", "memory_mb": None, "sbatch": ["--mail-type=END", "--exclude=n1"]})
    cluster = paper_cluster(tmp_path / "bin", rejects=f"{ERROR}\n")
    done = run(cluster, folder, "--default-resources", "slurm_account=physics", "constraint=fast")
    assert done.returncode == 1
    assert "gauntlet: sinfo lists no partition 'nope'; sbatch decides\n" in done.stderr
    assert f"gauntlet: SLURM rejects jobs ({ERROR}); `execution: cluster:` sets what they request\n" in done.stderr
    [(words, script)] = cluster.calls
    first = script.index("--configfiles") + 1
    assert script[first : first + len(NAMES)] == [str(folder / name) for name in NAMES]
    assert words[words.index("-D") + 1] == str(folder)
    options = ["-p", "nope", "-A", "physics", "-C", "fast", "--mail-type=END", "--exclude=n1"]
    assert [option for option in options if option not in words] == []
    assert not [word for word in words if word.startswith("--mem")]
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.slow
def test_jobs_with_such_names_run(tmp_path):
    """Every file is made, in jobs that the cluster runs."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    write_configs(folder, {"minutes": 5})
    (folder / "queue.py").write_text("raise RuntimeError('not named by any configuration')")
    cluster = paper_cluster(tmp_path / "bin")
    done = run(cluster, folder)
    assert done.returncode == 0, done.stderr + cluster.outputs
    assert len(list(folder.rglob("model.safetensors"))) == len(NAMES)
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.slow
def test_the_controllers_job_has_the_options_and_names(tmp_path):
    """It requests no memory where `memory_mb` is null; a folder that cannot be quoted is refused at once."""
    folder = tmp_path / "my $HOME; (`id`) ä"
    folder.mkdir()
    link_workflow(folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    write_configs(folder, {"partition": "nope", "memory_mb": None, "sbatch": ["--mail-type=END", "--exclusive"]})
    (folder / "queue.py").write_text("raise RuntimeError('not named by any configuration')")
    cluster = paper_cluster(tmp_path / "bin")
    command = [Path(sys.executable).with_name("gauntlet"), "submit", "--configfile", *(f"./{name}" for name in NAMES)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=cluster.environment())
    assert done.returncode == 0, done.stderr
    script = (folder / "logs/controller/1_submission.sh").read_text()
    options = ["--partition=nope", "--mail-type=END", "--exclusive"]
    assert [option for option in options if f"#SBATCH {option}\n" not in script] == []
    assert "--mem" not in script
    assert script.splitlines()[-1].endswith(f"submitit.core._submit '{folder}/logs/controller'")
    assert not list(tmp_path.rglob("hacked"))
    unquotable = folder.rename(tmp_path / "a'b$c")
    done = subprocess.run(command, cwd=unquotable, capture_output=True, text=True, env=cluster.environment())
    assert (done.returncode, "this name cannot be passed to a job" in done.stderr) == (2, True)
