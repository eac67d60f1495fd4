"""The README matches the code: its Python runs, its tables and its layout are current, its entries are valid."""

from __future__ import annotations

import ast
import re
import sys

import duckdb
import pytest

from gauntlet.config.attack_table import attack_table, renew_table
from gauntlet.config.attacks import Attack
from gauntlet.config.certificates import Certificate
from gauntlet.config.quick import merged
from gauntlet.config.schema import Experiment
from gauntlet.config.variants import Variant
from gauntlet.config.yaml_file import read_yaml
from gauntlet.registry import ATTACKS, CERTIFICATES
from gauntlet.registry.source_code import locate, module_file
from tests.support import ROOT
from tests.support.stub_outputs import CONFIG, finish_cells, write_config
from tests.support.yaml_text import parse_yaml

README = (ROOT / "README.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_readme_links_every_page():
    """The README links every page, and each page has a title."""
    named = set(re.findall(r"\]\(docs/(\w+\.md)\)", README))
    assert named == {path.name for path in ROOT.glob("docs/*.md")}
    assert [path.name for path in ROOT.glob("docs/*.md") if not path.read_text().startswith("# ")] == []


def test_the_first_example_runs(capfd):
    """The first block of Python evaluates a model, with a row per image, and prints counts of every status."""
    namespace: dict = {}
    exec(blocks("python")[0], namespace)
    statuses = set(namespace["rows"]["status"].to_pylist())
    assert namespace["rows"].num_rows == 500
    assert {"adversarial", "already_wrong"} < statuses
    printed = capfd.readouterr().out
    assert [status for status in statuses if status not in printed] == []


def test_the_table_of_attacks_is_current():
    """The table is that of the registry; `python -m gauntlet.config.attack_table README.md` renews it."""
    assert renew_table(README) == README, "run python -m gauntlet.config.attack_table README.md"
    assert re.findall(r"^\| `(\w+)` \|", attack_table(), flags=re.MULTILINE) == ATTACKS.names()


def test_a_table_is_renewed_between_its_markers_only():
    """The text between the markers is replaced, the rest of the page stays; a page without markers is refused."""
    before, _, rest = README.partition("| name | norms |")
    page = before + "old\n<!-- end" + rest.partition("<!-- end")[2]
    assert renew_table(page) == README
    with pytest.raises(ValueError, match="the page lacks <!-- attacks"):
        renew_table("no markers")


def test_the_layout_lists_every_wing():
    """The layout names the folders of the package, and the files at its top."""
    package = ROOT / "src" / "gauntlet"
    folders = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^    src/gauntlet/(\w+)/ ", README, flags=re.MULTILINE)) == folders
    top = re.search(r"^    src/gauntlet/  (.*)$", README, flags=re.MULTILINE)[1]
    assert set(re.findall(r"\w+\.py", top)) == {path.name for path in package.glob("*.py")}


def test_entries_of_the_readme_are_valid(tmp_path, monkeypatch):
    """The README's variants, attacks and certificates are valid, including the components of docs/extending.md."""
    own = blocks("python", (ROOT / "docs" / "extending.md").read_text())
    (tmp_path / "mine.py").write_text("\n".join(own))
    monkeypatch.syspath_prepend(tmp_path)
    # Sources are found once a process; another test may have had a module of this name.
    module_file.cache_clear()
    locate.cache_clear()
    entries: dict[str, dict] = {}
    for block in blocks("yaml"):
        entries |= parse_yaml(block)
    default = read_yaml(ROOT / "config.yaml").content["experiments"]["digits"]
    assert Experiment.model_validate(merged(default, entries.pop("quick"))).training.epochs == 2
    variants = [entry for entry in entries.values() if "model" in entry]
    certificates = [entry for entry in entries.values() if entry.get("name") in CERTIFICATES.names()]
    attacks = [entry for entry in entries.values() if "model" not in entry and entry not in certificates]
    assert (len(variants), len(attacks), len(certificates)) == (3, 3, 1)
    for entry in certificates:
        Certificate.model_validate(entry)
    for entry in variants:
        Variant.model_validate(entry)
    for entry in attacks:
        Attack.model_validate(entry)
    sys.modules.pop("mine", None)
    module_file.cache_clear()
    locate.cache_clear()


def test_the_query_of_the_readme_runs(tmp_path, monkeypatch):
    """The README's query names existing columns and files."""
    from gauntlet.core.parquet import write_table
    from gauntlet.core.schemas import EVALUATION_SCHEMA
    from gauntlet.pipeline import paths

    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    finish_cells(tmp_path)
    write_table(paths.evaluations("digits"), EVALUATION_SCHEMA.empty_table(), {})
    ast.parse(blocks("python")[1])
    query = re.search(r'duckdb\.sql\("""(.*?)"""\)', README, flags=re.DOTALL)[1]
    assert duckdb.sql(query).columns == ["variant", "attack", "robust_accuracy"]
