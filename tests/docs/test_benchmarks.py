"""`make bench`: it has the arguments that each benchmark requires, and is refused in one line without its data."""

from __future__ import annotations

import argparse
import os
import runpy
import shlex
import subprocess
import sys

import pytest

from tests.support import ROOT


def make_bench(*arguments):
    """Run `make bench` in the clone, or only print its commands; not as a part of the `make` that runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "bench", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def benchmark_commands():
    """List the benchmarks that `make bench` runs, with their arguments."""
    lines = make_bench("--dry-run", "DATA=/", "CIFAR10=/").stdout.splitlines()
    return [shlex.split(line)[1:] for line in lines if "benchmarks/" in line]


@pytest.mark.parametrize("data", [[], ["DATA="], ["DATA=no such folder"]])
def test_without_data_it_is_refused_in_one_line(data):
    """Nothing is installed or measured before."""
    done = make_bench(*data)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "set DATA to the folder of MNIST" in line
    assert done.stdout == ""


@pytest.mark.slow
def test_every_benchmark_receives_the_arguments_that_it_requires(monkeypatch):
    """Each parses its command line; those that need other programs are left out by name."""
    commands = benchmark_commands()
    left_out = {"page.py", "cluster.py", "gpu.py", "gpu_page.py"}
    assert {command[0] for command in commands} == {
        f"benchmarks/{path.name}" for path in ROOT.glob("benchmarks/*.py") if path.name not in left_out
    }
    parse = argparse.ArgumentParser.parse_args

    class ParsedError(Exception):
        pass

    def parse_and_end(parser, *arguments):
        parse(parser, *arguments)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for script, *arguments in commands:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(ParsedError):
            runpy.run_path(str(ROOT / script), run_name="__main__")
