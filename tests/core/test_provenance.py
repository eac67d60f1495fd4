"""Recipes and fingerprints change if and only if something that decides the bytes changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from gauntlet.core.parquet import table_digest, write_table
from gauntlet.core.provenance import run_metadata
from gauntlet.core.provenance.recipes import Recipe, digest_mark, read_marks, recipe_from, recipe_mark
from gauntlet.pipeline import fingerprint as fingerprints
from gauntlet.registry.source_code import module_file, syntax_tree

BEFORE = '''
"""Module docstring."""
import helper_module


def double(x):
    """Docstring."""
    return helper_module.twice(x)  # comment
'''
SAME = """
import helper_module
# another comment
def double(x):
    return (helper_module
            .twice(x))
"""


CACHED = ("_fingerprint", "imported", "module_hash", "_is_own", "_import_statements", "_file_hash")


def clear():
    for name in (*CACHED, "_is_installed_package", "_recorded_names"):
        getattr(fingerprints, name).cache_clear()
    module_file.cache_clear()
    syntax_tree.cache_clear()


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules; return a function that rewrites one of them and computes the fingerprint again."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_module.py").write_text("def twice(x): return 2 * x\n")
    (tmp_path / "unrelated_module.py").write_text("x = 1\n")

    def fingerprint(text=None, name="main_module"):
        if text is not None:
            (tmp_path / f"{name}.py").write_text(text)
        clear()
        return fingerprints.fingerprint(["main_module"])

    yield fingerprint
    clear()


def test_comments_docstrings_and_formatting_do_not_count(modules):
    """The fingerprint is a hash of the syntax tree without docstrings."""
    assert modules(BEFORE) == modules(SAME)


@pytest.mark.parametrize("edit", ["return helper_module.twice(x) + 1", "return helper_module.twice(x, 1)", "pass"])
def test_an_edit_of_the_code_counts(modules, edit):
    """Any change of a module's behavior changes its hash."""
    assert modules(BEFORE) != modules(BEFORE.replace("return helper_module.twice(x)", edit))


def test_an_edit_of_an_imported_module_counts_and_of_another_does_not(modules):
    """Modules imported directly, indirectly or inside functions are hashed, and no others."""
    late = BEFORE.replace("import helper_module\n", "").replace("    return", "    import helper_module\n    return")
    for text in (BEFORE, late):
        before = modules(text)
        assert set(before) == {"main_module", "helper_module"}
        assert modules("x = 2\n", "unrelated_module") == before
        assert modules("def twice(x): return 3 * x\n", "helper_module") != before
        modules("def twice(x): return 2 * x\n", "helper_module")


@pytest.mark.parametrize("call", ["importlib.import_module('helper_module')", "__import__('helper_module')"])
def test_a_module_imported_by_a_call_with_its_name_counts(modules, call):
    """The name is written out; a computed one is not known without running the code."""
    before = modules(f"import importlib\ntwice = {call}.twice\n")
    assert set(before) == {"main_module", "helper_module"}
    assert modules("def twice(x): return 3 * x\n", "helper_module") != before


def test_a_relative_module_imported_by_a_call_counts(modules, tmp_path):
    """It is relative to the package of the caller."""
    for name, text in {
        "__init__": "",
        "one": "import importlib\nimportlib.import_module('.two', __package__)\n",
    }.items():
        (tmp_path / "some_package").mkdir(exist_ok=True)
        (tmp_path / "some_package" / f"{name}.py").write_text(text)
    (tmp_path / "some_package" / "two.py").write_text("x = 1\n")
    assert "some_package.two" in modules("import some_package.one\n")


def test_a_module_that_is_not_python_counts_by_its_bytes(modules):
    """It may be imported in a `try`, or never."""
    before = modules("try:\n    import helper_module\nexcept SyntaxError:\n    pass\n")
    old = modules('print "x"\n', "helper_module")
    assert set(old) == set(before)
    assert modules('print "y"\n', "helper_module") != old != before


INSTALLED = {
    "site-packages/installed_one/__init__.py": None,
    "lib/dist-packages/installed_one.py": None,
    "target/installed_one/__init__.py": "target/one-1.0.dist-info/RECORD",
    "target/installed_one.py": "target/one-1.0.dist-info/RECORD",
    "target/installed_one/part/__init__.py": "target/one-1.0.dist-info/RECORD",
}


@pytest.mark.parametrize("place", INSTALLED)
def test_packages_in_any_folder_of_an_installer_do_not_count(modules, tmp_path, monkeypatch, place):
    """A user's packages, the system's below a virtual environment, and those of `pip install --target`."""
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    root = tmp_path / place.partition("/installed_one")[0]
    if record := INSTALLED[place]:
        (tmp_path / record).parent.mkdir()
        (tmp_path / record).write_text(f"{file.relative_to(root)},sha256=,6\n")
    (root / "own_one.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(root)
    name = "installed_one.part" if "part" in place else "installed_one"
    found = modules(f"import {name}\nimport own_one\n")
    # A module of the user's own may lie next to what an installer put into a folder, but for one reserved for it.
    assert set(found) - {"own_one"} == {"main_module"}
    assert ("own_one" in found) == (record is not None)


def test_a_string_that_is_no_docstring_counts():
    """Strings that are not docstrings are part of the hash."""
    assert fingerprints.module_hash("gauntlet.reporting.stats") != fingerprints.module_hash("gauntlet.core.parquet")


@pytest.mark.parametrize(
    "other",
    [
        Recipe("train", {"a": 2, "b": 1}, {"m": "1"}, {"i": "1"}),
        Recipe("train", {"a": 1, "c": 2}, {"m": "1"}, {"i": "1"}),
        Recipe("train", {"a": 1, "b": 2.0}, {"m": "1"}, {"i": "1"}),
        Recipe("train", {"a": 1, "b": 2}, {"m": "2"}, {"i": "1"}),
        Recipe("train", {"a": 1, "b": 2}, {"m": "1"}, {"i": "2"}),
        Recipe("certify", {"a": 1, "b": 2}, {"m": "1"}, {"i": "1"}),
    ],
    ids=["values swapped", "key renamed", "type changed", "module changed", "input changed", "stage changed"],
)
def test_every_part_of_a_recipe_decides_its_digest(other):
    """Swapped values, a renamed key, or a changed type, module or input give another string."""
    recipe = Recipe("train", {"a": 1, "b": 2}, {"m": "1"}, {"i": "1"})
    assert recipe.digest != other.digest
    assert recipe.digest == Recipe("train", {"b": 2, "a": 1}, {"m": "1"}, {"i": "1"}).digest


def test_a_recipe_survives_metadata():
    """A recipe is read back from the metadata of a file."""
    recipe = Recipe("train", {"a": [1, None, "ε"]}, {"m": "1"}, {"i": "1"})
    assert recipe_from(recipe.metadata()) == recipe
    assert recipe_from({}) is None


@pytest.mark.parametrize("size", [0, 1 << 10, 1 << 18])
@pytest.mark.parametrize("at_end", [True, False])
def test_marks_are_found_at_either_end_of_a_file_of_any_size(tmp_path, size, at_end):
    """Marks in the first or last 64 KiB are found, whatever the file format."""
    recipe, content = Recipe("train", {}, {}), b"\0" * size
    marks = f"x{recipe_mark(recipe.digest)}y{digest_mark('0' * 64)}z".encode()
    (tmp_path / "file").write_bytes(content + marks if at_end else marks + content)
    assert read_marks(tmp_path / "file")[:2] == (recipe.digest, f"sha256:{'0' * 64}")
    assert read_marks(tmp_path / "absent")[:2] == (None, None)


def test_a_mark_is_found_wherever_it_begins_in_a_file_of_two_windows(tmp_path):
    """Also where the first 64 KiB end within it."""
    recipe = Recipe("train", {}, {})
    mark = recipe_mark(recipe.digest).encode()
    for start in ((1 << 16) - 50, (1 << 16) - len(mark), 1 << 16):
        (tmp_path / "file").write_bytes((b"\0" * start + mark).ljust(100_000, b"\0"))
        assert read_marks(tmp_path / "file").recipe == recipe.digest


def test_the_marks_of_a_table_are_found_whatever_the_size_of_its_metadata(tmp_path):
    """An experiment of hundreds of variants has more than 64 KiB of them, of which Arrow stores a second copy last."""
    recipe = Recipe("aggregate", {"variants": "x" * 200_000}, {})
    table = pa.table({"value": np.random.default_rng(0).random(50_000)})
    write_table(tmp_path / "t.parquet", table, recipe.metadata())
    assert read_marks(tmp_path / "t.parquet")[:2] == (recipe.digest, f"sha256:{table_digest(table)}")


def test_the_commit_of_a_repository_around_an_installed_package_is_not_ours(tmp_path, monkeypatch):
    """A virtual environment is often in the folder of the user's own project."""
    file = tmp_path / ".venv" / "provenance" / "run_metadata.py"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(run_metadata, "__file__", str(file))

    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message=theirs")
    assert run_metadata.commit() == {"commit": "unknown", "dirty": "unknown"}
    git("add", "--force", ".")
    git("commit", "--message=ours")
    assert run_metadata.commit() == {"commit": git("rev-parse", "HEAD"), "dirty": "false"}


@pytest.mark.parametrize("program", ["/venv/bin/snakemake", "/venv/lib/snakemake/__main__.py"])
def test_a_command_is_named_also_where_its_module_is_run(monkeypatch, program):
    """`gauntlet run` starts Snakemake by `python -m`; the lock names the command of its holder."""
    monkeypatch.setattr(sys, "argv", [program, "--profile", "local"])
    assert run_metadata.command_line() == "snakemake --profile local"
