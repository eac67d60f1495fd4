"""The examples of docs/extending.md are checked, trained, attacked, certified and drawn."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.core.parquet import read_table
from gauntlet.pipeline import paths
from gauntlet.registry import Registry
from gauntlet.registry import registries as registry
from tests.support import ROOT
from tests.support.cells import make_cell
from tests.support.page_folders import entered
from tests.support.yaml_text import dump_yaml, parse_yaml

PAGE = (ROOT / "docs" / "extending.md").read_text()
REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the page's examples in one module, and its configuration."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)))
    (folder / "config.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    with entered(folder, "mine"):
        yield folder


def gauntlet(*arguments: str) -> str:
    """Run a command and return its output."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, f"{arguments}: {done.output} {done.exception}"
    return done.output


def test_every_registry_has_a_row_an_example_and_a_folder():
    """The page covers every registry."""
    rows = dict(re.findall(r"^\| [^|]+ \| `([A-Z]+)` \| `([^`]+)` \|", PAGE, flags=re.MULTILINE))
    assert set(rows) == set(REGISTRIES)
    for name, place in rows.items():
        assert (ROOT / "src" / "gauntlet" / place).is_dir()
        assert f"gauntlet/{place}".startswith(REGISTRIES[name].package.replace(".", "/"))
        assert f"@{name}.register(" in PAGE or name == "MODELS"


def test_tests_that_the_page_names_exist():
    """Test files named on the page exist."""
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_example_is_in_the_configuration(own):
    """The configuration uses each example but the figure, and is valid."""
    text = (own / "config.yaml").read_text()
    examples = [
        (line, name)
        for line, name in re.findall(r"@([A-Z]+)\.register\(.*\n(?:class|def) (\w+)", (own / "mine.py").read_text())
        if line != "FIGURES"
    ]
    assert len(examples) == len(REGISTRIES) - 2
    assert [name for _, name in examples if f"mine:{name}" not in text] == []
    gauntlet("check", "config.yaml")


def test_options_of_the_examples_are_checked(own):
    """A wrong option of an example is refused before anything runs."""
    wrong = parse_yaml((own / "config.yaml").read_text())
    wrong["experiments"]["own"]["attacks"]["signs"]["share"] = 2.0
    (own / "wrong.yaml").write_text(dump_yaml(wrong))
    done = CliRunner().invoke(app, ["check", "wrong.yaml"])
    assert "attacks.signs.share" in f"{done.output} {done.exception}"
    assert done.exit_code != 0


@pytest.mark.slow
def test_the_examples_are_run(own):
    """Every example is called by the stage that uses it."""
    for stage in ("check", "prepare", "train", "evaluate", "certify"):
        gauntlet(stage)
    for variant in ("small", "function", "parts", "sigmoid", "certified"):
        assert len(read_table(paths.history(make_cell("train", "own", variant, 0)))) == 2
        rows = read_table(paths.samples(make_cell("evaluate", "own", variant, 0, "signs")))
        assert set(rows["status"].to_pylist()) <= {"adversarial", "robust", "already_wrong"}
    radii = read_table(paths.samples(make_cell("certify", "own", "certified", 0, "cube")))["radius"].to_pylist()
    assert max(radii) > 0
    gauntlet("aggregate")
    command = re.search(r"^    gauntlet (figures .*mine:.*)$", PAGE, flags=re.MULTILINE)[1]
    gauntlet(*command.split())
    assert len(list((own / "figures").glob("clean_bars.png"))) == 1
