"""A folder of the user's own: `gauntlet init` and `gauntlet run`, from the checkout and from a wheel."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.core.errors import InputError
from gauntlet.pipeline.project import CHECKOUT, CHECKOUT_FILES, SNAKEFILE, begin, snakemake_command, with_profile
from gauntlet.pipeline.snakemake_arguments import check_arguments
from tests.support import ROOT
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY


def test_a_configuration_to_begin_with_is_the_default_experiment(tmp_path):
    """It is written into a folder that need not exist."""
    file = begin(tmp_path / "mine")
    assert file == tmp_path / "mine" / "config.yaml"
    assert file.read_text() == (ROOT / "config.yaml").read_text()


def test_an_existing_configuration_is_kept(tmp_path):
    """A second `gauntlet init`, or one into a file, changes nothing."""
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(InputError, match="there is a configuration already"):
        begin(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "mine"
    with pytest.raises(InputError, match="this is a file"):
        begin(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("given", "profile"),
    [
        ([], ["--profile", f"{CHECKOUT}/profiles/local"]),
        (["-n", "figures"], ["--profile", f"{CHECKOUT}/profiles/local"]),
        (["--profile", "slurm"], ["--profile", f"{CHECKOUT}/profiles/slurm"]),
        (["--profile=slurm"], [f"--profile={CHECKOUT}/profiles/slurm"]),
        (["--profile", "of_our_institute"], ["--profile", "of_our_institute"]),
        (["--profile", "profiles/.."], ["--profile", "profiles/.."]),
        (["--profile", ".."], ["--profile", ".."]),
        (["--profile"], ["--profile"]),
    ],
)
def test_profiles_of_the_package_are_found_by_name(tmp_path, monkeypatch, given, profile):
    """All other arguments of Snakemake are passed on as they are."""
    monkeypatch.chdir(tmp_path)
    command = snakemake_command(with_profile(given, "local"))
    others = [argument for argument in given if argument in ("-n", "figures")]
    assert command == [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *profile, *others]


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["-R", "train", "--", "figures", "report"], ["figures", "report", "-R", "train"]),
        (["figures", "-n", "--configfile", "a.yaml", "--"], ["figures", "-n", "--configfile", "a.yaml"]),
        (["--quiet", "-np", "--", "figures"], ["figures", "--quiet", "-np"]),
    ],
)
def test_targets_after_two_dashes_are_no_values_of_an_option(tmp_path, monkeypatch, given, passed_on):
    """As for Snakemake itself: without the dashes `-R` would also name the targets, and the target would be `all`."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, TINY).rename("a.yaml")
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _file, command: commands.append(command))
    CliRunner().invoke(app, ["run", *given], catch_exceptions=False)
    assert [command[7:] for command in commands] == [passed_on]


def test_a_profile_in_the_folder_comes_first(tmp_path, monkeypatch):
    """As for Snakemake itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    assert snakemake_command(["--profile", "slurm"])[-1] == "slurm"


def gauntlet(folder, *arguments, **variables):
    """Run the command in a folder; return the finished process."""
    environment = os.environ | variables
    command = [sys.executable, "-m", "gauntlet", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


def test_a_wheel_and_a_frozen_copy_have_the_same_files_of_the_checkout():
    """The build cannot import the package."""
    assert runpy.run_path(str(ROOT / "hatch_build.py"))["FILES"] == CHECKOUT_FILES


@pytest.mark.parametrize("folder", ["/proc/nope", "/dev/null/nope", "a" * 300])
def test_a_folder_that_cannot_be_made_is_refused(folder):
    """The system's reason is in the line."""
    with pytest.raises(InputError, match=rf"^{folder}: this folder cannot be made \(.+\); name a folder of your own$"):
        begin(Path(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--configfile", "nope.yaml"], r"nope\.yaml: cannot be read: No such file"),
        (["--configfiles=nope.yaml", "figures"], r"nope\.yaml: cannot be read: No such file"),
        (["--configfile", "good.yaml", "."], r"\.: cannot be read: Is a directory"),
        (
            ["--configfile", "good.yaml", "--configfiles=good.yaml"],
            "--configfile: given twice, and Snakemake uses the last; name all files after one: --configfile a.yaml",
        ),
        (["--configfile", "bytes.yaml"], r"bytes\.yaml:1:1: is no UTF-8 text"),
        (["--configfile", "text.yaml"], r"text\.yaml:1:1: holds a list"),
        (
            ["--profile", "nothing"],
            "--profile nothing: there is no such profile; known: local, slurm, and folders",
        ),
        (["--profile=empty"], "--profile empty: there is no such profile"),
        (["--profile", "local", "--profile", "nothing"], "--profile nothing: there is no such profile"),
    ],
)
def test_files_that_snakemake_reads_first_are_checked_before_it_starts(tmp_path, monkeypatch, arguments, message):
    """Its own messages for them are tracebacks, or several lines with exit code 1."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, TINY).rename("good.yaml")
    Path("bytes.yaml").write_bytes(b"\xff")
    Path("text.yaml").write_text("- 1")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=f"^{message}.*$") as error:
        check_arguments(arguments)
    assert error.value.exit_code == 2
    assert len(str(error.value).splitlines()) == 1


def test_profiles_that_snakemake_finds_are_accepted(tmp_path, monkeypatch):
    """By name in the folder or in the user's, by path, as a file, and `none`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    # Snakemake keeps the folders that it found.
    monkeypatch.setattr("snakemake.common.APPDIRS", None)
    for folder in ("here", "home/snakemake/ours", "sub/there"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.v9+.yaml").write_text("cores: 1")
    named = ["local", "slurm", "none", "here", "ours", "sub/there", "sub/there/config.v9+.yaml"]
    check_arguments([word for name in named for word in ("--profile", name)])
    check_arguments(["--profile"])


@pytest.mark.slow
def test_run_plans_in_any_folder_though_it_has_a_workflow_of_its_own(tmp_path):
    """The user's own Snakefile next to the configuration is not the one that is run."""
    (tmp_path / "Snakefile").write_text("rule all: shell: 'false'")
    write_config(tmp_path, TINY)
    done = gauntlet(tmp_path, "run", "-n")
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [("run", "-n", "--configfile", "nope.yaml"), ("run", "--profile", "nope"), ("init", "/proc/nope")]
)
def test_what_cannot_be_used_is_one_line(tmp_path, arguments):
    """With exit code 2."""
    done = gauntlet(tmp_path, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "nope" in done.stderr


@pytest.mark.slow
def test_run_without_a_configuration_says_how_to_begin(tmp_path):
    """One line, exit code 2."""
    done = gauntlet(tmp_path, "run", "-n")
    assert done.returncode == 2
    assert "gauntlet init" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_wheel_runs_an_experiment_without_a_checkout(tmp_path):
    """The wheel has workflow, rules, profiles and default configuration; the experiment runs to its page."""
    packages, folder = tmp_path / "packages", tmp_path / "my project"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(packages), str(ROOT)]
    subprocess.run([*install, *target], check=True, timeout=1200)
    wheel = {"PYTHONPATH": str(packages)}
    where = [sys.executable, "-c", "from gauntlet.pipeline.project import CHECKOUT; print(CHECKOUT)"]
    shown = subprocess.run(where, env=os.environ | wheel, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(packages / "gauntlet" / "pipeline" / "checkout")
    assert gauntlet(tmp_path, "init", "my project", **wheel).returncode == 0
    assert gauntlet(folder, "check", **wheel).returncode == 0
    write_config(folder, TINY)
    done = gauntlet(folder, "run", **wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results" / "small" / "report.html").is_file()
    again = gauntlet(folder, "run", "-n", **wheel)
    assert "train" not in again.stdout + again.stderr
