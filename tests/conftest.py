"""Finished runs that tests of several folders copy."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.slurm import LONGEST
from tests.support.stub_outputs import CONFIG, finish_cells, write_config

# The same examples every time, so that a change is judged by itself; `--hypothesis-profile other` tries others.
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("other", derandomize=False, database=None)
settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Return the scheduler of the slow tests."""
    from tests.support.scheduling import ModuleScheduling

    return ModuleScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import all tests without garbage collection, which would search the modules again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items):
    """Run the tests on SLURM first, and of these the longest module: they take longer than others, and mostly wait."""
    items.sort(key=lambda item: (item.get_closest_marker("slurm") is None, not item.nodeid.startswith(LONGEST)))


def pytest_terminal_summary(terminalreporter):
    """Print the measurements that tests record."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session", autouse=True)
def unsynced_files() -> Iterator[None]:
    """Do not wait for the disk: thousands of files are written, and none has to survive a power failure."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Undo what a stage that is run in the tests' own process sets for its process: torch's choice of kernels."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False


@pytest.fixture(scope="session")
def stub_run(tmp_path_factory) -> Path:
    """A finished run of stub files, which no test changes."""
    folder = tmp_path_factory.mktemp("stub_run")
    with chdir(folder):
        write_config(folder, CONFIG)
        finish_cells(folder)
    return folder


@pytest.fixture
def stub_folder(stub_run, tmp_path, monkeypatch) -> Path:
    """A copy of the finished run of stub files, which is the current folder."""
    shutil.copytree(stub_run, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
