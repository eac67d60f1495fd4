"""Copies of the package with the files that CONTRIBUTING.md shows, and commands run in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def files_of(title: str) -> dict[str, str]:
    """Return the files that a section of CONTRIBUTING.md shows, by path."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE))


def clone_with(title: str, folder: Path) -> Path:
    """Copy the package and its workflow into a folder, and add the files that a section shows."""
    for name in ("workflow", "rules", "profiles", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "local").symlink_to("profiles/local")
    for path, text in files_of(title).items():
        file = folder / path
        assert not file.exists(), f"{path} is a new file"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return folder


def run_module(folder: Path, *arguments: str) -> str:
    """Run a module of the clone's code, and return its standard output and error."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "120"}
    environment["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
