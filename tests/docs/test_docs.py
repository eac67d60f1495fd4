"""The documents match the code: commands exist, snippets are valid, links resolve."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from typing import get_args

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import gauntlet
from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.config.reference import SECTIONS, reference
from gauntlet.config.schema import Config, Experiment
from gauntlet.registry import ADVERSARIES
from gauntlet.registry import registries as registry
from gauntlet.robustness.diagnostics.checks import CHECKS
from tests.support import ROOT
from tests.support.contributions import files_of
from tests.support.yaml_text import dump_yaml, parse_yaml

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
TEXTS = [pytest.param(path.read_text(), id=path.name) for path in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_to_files(path):
    """Links and pictures refer to existing files."""
    targets = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("text", TEXTS)
def test_commands_and_their_options_exist(text):
    """Each `gauntlet …` in the documents is a sub-command with the settings options."""
    for line in re.findall(r"(?:^    |`|&& )(gauntlet [a-z][^`#\n]*)", text, flags=re.MULTILINE):
        for command in line.split("&&"):
            words = shlex.split(command.replace("…", "x").replace("|", " ").replace("[", "").replace("]", ""))
            if words[:1] == ["gauntlet"] and len(words) > 1:
                shown = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
                assert shown.exit_code == 0, command
                missing = [word for word in words[2:] if word.startswith("--") and word not in shown.output]
                assert missing == [], command


@pytest.mark.parametrize("text", TEXTS)
def test_every_table_has_a_header(text):
    """Rows after an empty line are no table: a page shows their bars."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).split("\n")
    blocks = [list(rows) for is_row, rows in itertools.groupby(lines, lambda line: line.startswith("|")) if is_row]
    assert [block[0] for block in blocks if not re.fullmatch(r"[|:\- ]+", "".join(block[1:2]))] == []


def test_every_picture_is_used():
    """Each picture is in a document, and all together are small."""
    pictures = list(ROOT.glob("docs/pictures/*"))
    shown = "".join(path.read_text() for path in DOCUMENTS)
    assert [path.name for path in pictures if path.name not in shown] == []
    assert sum(path.stat().st_size for path in pictures) < 620_000


def test_variants_of_the_page_on_adversarial_training_are_valid():
    """The page has a valid variant for each registered adversary."""
    page = (ROOT / "docs" / "adversarial_training.md").read_text()
    variants = parse_yaml(re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[1])
    experiment = Experiment.model_validate({"dataset": {"source": "sklearn_digits"}, "variants": variants})
    assert sorted(experiment.training_of(name).adversary.name for name in variants) == ADVERSARIES.names()


FRAGMENTS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted(ROOT.glob("docs/*.md"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), flags=re.DOTALL))
    if not block.startswith("experiments:")
]


@pytest.mark.parametrize("block", FRAGMENTS)
def test_entries_of_the_pages_are_valid(tmp_path, block):
    """Fragments of configuration in the pages are valid, with grids and candidates expanded."""
    entries = parse_yaml(block)
    sigmoid = {"model": {"name": "mnist_cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    settings = entries if set(entries) <= set(Experiment.model_fields) else {"variants": entries}
    attacks = {norm: {"name": "fgsm", "norm": norm, "epsilons": [0.1, 0.3, 1.0]} for norm in ("linf", "l2")}
    images = {"source": "torchvision", "name": "CIFAR10"}
    base = {"dataset": images, "variants": {"any": sigmoid}, "attacks": attacks}
    Experiment.model_validate(base | settings | {"variants": base["variants"]})
    if "variants" in settings:
        file = tmp_path / "config.yaml"
        file.write_text(dump_yaml({"experiments": {"e": base | settings}}))
        load([file])


def test_every_check_is_documented_with_its_thresholds():
    """docs/diagnostics.md lists each check with the thresholds of the code."""
    text = (ROOT / "docs" / "diagnostics.md").read_text()
    for check in CHECKS.values():
        warn, fail = ("0" if value == 0 else f"{100 * value:g} %" for value in (check.warn, check.fail))
        assert re.search(rf"^\| `{check.name}` \|.*\| {warn} \| {fail} \|", text, flags=re.MULTILINE), check.name


def test_the_reference_is_up_to_date():
    """docs/configuration.md is the output of `python -m gauntlet.config.reference`."""
    assert (ROOT / "docs" / "configuration.md").read_text() == reference()


def test_the_reference_has_every_section_of_the_schema_and_every_registry():
    """Each nested model of the configuration and each registry has a section."""
    waiting, models = [Config], set()
    while waiting:
        model = waiting.pop()
        models.add(model)
        for info in model.model_fields.values():
            waiting += [one for one in _models(info.annotation) if one not in models]
    written = {model for _, model, _ in SECTIONS}
    # What a variant trains differently has the keys of the training that all have.
    keys = {frozenset(model.model_fields) for model in written}
    assert [model for model in models - written if not any(set(model.model_fields) <= known for known in keys)] == []
    assert written <= models
    registries = {value.kind for value in vars(registry).values() if isinstance(value, registry.Registry)}
    assert registries == {one.kind for *_, registries in SECTIONS for one in registries} | {registry.FIGURES.kind}


def _models(annotation):
    """List the models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


METADATA_KEYS = {"gauntlet.plan"}
"""Names in documents that look like modules and are keys of files' metadata."""


def names_of_code(path):
    """List the files (with a folder) and the dotted names of the package in a document, without blocks of code."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    files = re.findall(r"(?<![\w/.])([\w.-]+/[\w./-]*\.(?:py|smk|js|sh|toml))\b", text)
    files += re.findall(r"`((?:tests|src|rules|workflow|profiles|docs)/[\w./-]*)`", text)
    names = re.findall(r"(?<![\w/])gauntlet(?:\.\w+)+", text)
    return sorted(set(files)), sorted(set(names) - METADATA_KEYS)


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_files_and_modules_in_the_documents_exist(path):
    """Every file is found from the root or in the package; every dotted name is a module or a name in one."""
    files, names = names_of_code(path)
    added = {name for title in ("Add an attack", "Add a figure", "Add a stage") for name in files_of(title)}
    folders = (ROOT, ROOT / "src" / "gauntlet", path.parent)
    assert [
        name for name in files if name not in added and not any((folder / name).exists() for folder in folders)
    ] == []
    assert [name for name in names if not is_defined(name)] == []


def is_defined(name):
    """Return whether a dotted name is a module, or an attribute of its longest prefix that is one."""
    module, _, attribute = name.rpartition(".")
    if attribute in gauntlet.__all__ and module == "gauntlet":
        return True
    file = ROOT / "src" / name.replace(".", "/")
    if file.is_dir() or file.with_suffix(".py").is_file():
        return True
    return hasattr(importlib.import_module(module), attribute)


def test_a_file_that_is_missing_is_found(tmp_path):
    """Files, modules and attributes that do not exist are noticed."""
    page = tmp_path / "page.md"
    page.write_text("`core/randomness.py`, `core/nothing.py`, `gauntlet.evaluate` and `gauntlet.core.nothing`")
    files, names = names_of_code(page)
    assert files == ["core/nothing.py", "core/randomness.py"]
    assert [name for name in names if not is_defined(name)] == ["gauntlet.core.nothing"]
