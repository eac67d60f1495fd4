"""Docstrings, comments, messages and pages use the plain words of the field (see CONTRIBUTING, Language)."""

import ast
import functools
import itertools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OPENINGS = ["What", "How", "Where", "Whether", "Which", "Who", "Whose", "Why", "When"]
OPENINGS += ["Give", "Gives", "Say", "Says", "Tell", "Tells"]
"""First words that no docstring has: it opens with an imperative verb or a noun phrase."""

WORDS = re.compile(
    r"(?<![a-z])(?:told|tells?|telling|stands?|stood|standing|besides?|whoever|witness(?:es)?|company|exhibits?|foreign|"
    r"circumstances?|mend(?:s|ed|ing)?|subjects?|betters|makings?|hang(?:s)? on|took the place|one of ours|speaks?)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""Words that the field does not use for what we mean, or uses for something else."""

BRITISH = re.compile(
    r"(?:normalis|optimis|regularis|summaris|initialis|parametris|recognis|organis|generalis|factoris|serialis|"
    r"minimis|maximis|visualis|penalis|randomis|standardis|orthonormalis|orthogonalis|discretis|quantis|equalis|"
    r"behaviour|colour|neighbour|favour|artefact|licence|centre|analyse|catalogue|labell|modell)",
    re.IGNORECASE,
)
"""British spellings: identifiers are American (`normalize`, `optimizer`), and so is the rest."""

TEXTS = (".py", ".md", ".smk", ".yaml", ".toml", ".j2", ".js", ".css", ".sh", "")
SKIPPED = ("CHANGELOG.md", "envs/", "LICENSE", "tests/docs/test_language.py")

DATA = ("incomplete_optimisation", ":colours")
"""A value in result tables, and the address of a random draw: they stay as they are."""


def files():
    """List the project's texts."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in TEXTS and path.is_file() and not path.is_symlink() and not name.startswith(SKIPPED):
            yield name


FILES = list(files())


def openings(path):
    """List the docstrings that open with a word of the list, by line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for text in docstrings(node):
            if text.split(" ", 1)[0].strip("`,.:") in OPENINGS:
                yield f"{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"


def docstrings(node):
    """Yield the docstring of a module, class or function, and those below the constants and fields that it assigns."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield ast.get_docstring(node) or ""
        for before, after in itertools.pairwise(node.body):
            value = getattr(after, "value", None) if isinstance(after, ast.Expr) else None
            is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
            if is_text and isinstance(before, ast.Assign | ast.AnnAssign):
                yield value.value


def test_docstrings_of_constants_are_read_too():
    """A string below an assignment documents it."""
    module = ast.parse('A = 1\n"""What A is."""\n')
    assert list(docstrings(module)) == ["", "What A is."]


def words(path):
    """List the lines that hold a word of the lists."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = functools.reduce(lambda left, data: left.replace(data, ""), DATA, line)
        found = [*WORDS.findall(text.replace("_", " ")), *BRITISH.findall(text)]
        if found:
            yield f"{number}: {', '.join(found)}: {line.strip()}"


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in FILES}))
def test_plain_words_of_the_field(folder):
    """Openings and words that readers stumble over are in no docstring, comment, name, message or page."""
    found = []
    for name in FILES:
        path = ROOT / name
        if name.split("/")[0] == folder:
            lines = [*(openings(path) if path.suffix == ".py" else ()), *words(path)]
            found += [f"{name}:{line}" for line in lines]
    assert not found, "\n".join(found)
