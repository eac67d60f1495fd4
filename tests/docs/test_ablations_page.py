"""The example of docs/ablations.md is checked, and shown as the page shows it."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from tests.support import ROOT

PAGE = (ROOT / "docs" / "ablations.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the configuration of the page."""
    (tmp_path / "config.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_shows_what_check_prints(folder):
    """The tables of the grids, and the variant that is shown, are those of the example."""
    table = re.search(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    assert CliRunner().invoke(app, ["check"]).output == table
    shown = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    name = re.search(r"^(\w+):", shown, flags=re.MULTILINE)[1]
    assert CliRunner().invoke(app, ["check", "--show", name]).output == shown
