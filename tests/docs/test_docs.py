"""The documents match the code: commands exist, snippets are valid, links resolve."""

from __future__ import annotations

import ast
import re
import shlex
from typing import get_args

import duckdb
import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config.attacks import Attack
from gauntlet.config.certificates import Certificate
from gauntlet.config.quick import merged
from gauntlet.config.reference import SECTIONS, reference
from gauntlet.config.schema import Config, Experiment
from gauntlet.config.variants import Variant
from gauntlet.config.yaml_file import read_yaml
from gauntlet.registry import ADVERSARIES, CERTIFICATES
from gauntlet.registry import registries as registry
from gauntlet.registry.source_code import locate, module_file
from gauntlet.robustness.diagnostics.checks import CHECKS
from tests.support import ROOT
from tests.support.stub_outputs import CONFIG, finish_cells, write_config

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
README = (ROOT / "README.md").read_text()
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


def test_the_readme_links_every_page():
    """The README links every page, and each page has a title."""
    named = set(re.findall(r"\]\(docs/(\w+\.md)\)", README))
    assert named == {path.name for path in ROOT.glob("docs/*.md")}
    assert [path.name for path in ROOT.glob("docs/*.md") if not path.read_text().startswith("# ")] == []


def test_every_picture_is_used():
    """Each picture is in a document, and all together are small."""
    pictures = list(ROOT.glob("docs/pictures/*"))
    shown = "".join(path.read_text() for path in DOCUMENTS)
    assert [path.name for path in pictures if path.name not in shown] == []
    assert sum(path.stat().st_size for path in pictures) < 600_000


def test_entries_of_the_readme_are_valid(tmp_path, monkeypatch):
    """The README's variants, attacks and certificates are valid, including user-defined classes."""
    (tmp_path / "my_nets.py").write_text("class WideNet:\n    def __init__(self, *, width: int): ...\n")
    own = next(block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "def spiral" in block)
    (tmp_path / "my_attacks.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    # Sources are found once a process; another test may have had modules of these names.
    module_file.cache_clear()
    locate.cache_clear()
    entries: dict[str, dict] = {}
    for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL):
        entries |= yaml.safe_load(block)
    default = read_yaml(ROOT / "config.yaml").content["experiments"]["digits"]
    assert Experiment.model_validate(merged(default, entries.pop("quick"))).training.epochs == 2
    variants = [entry for entry in entries.values() if "model" in entry]
    certificates = [entry for entry in entries.values() if entry.get("name") in CERTIFICATES.names()]
    attacks = [entry for entry in entries.values() if "model" not in entry and entry not in certificates]
    variants.append(yaml.safe_load(re.search(r"`(\{model: \{name: \"my_nets:WideNet\".*?\}\})`", README)[1]))
    assert (len(variants), len(attacks), len(certificates)) == (2, 3, 1)
    for entry in certificates:
        Certificate.model_validate(entry)
    for entry in variants:
        Variant.model_validate(entry)
    for entry in attacks:
        Attack.model_validate(entry)


def test_variants_of_the_page_on_adversarial_training_are_valid():
    """The page has a valid variant for each registered adversary."""
    page = (ROOT / "docs" / "adversarial_training.md").read_text()
    variants = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[1])
    experiment = Experiment.model_validate({"dataset": {"source": "sklearn_digits"}, "variants": variants})
    assert sorted(experiment.training_of(name).adversary.name for name in variants) == ADVERSARIES.names()


FRAGMENTS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted(ROOT.glob("docs/*.md"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), flags=re.DOTALL))
    if not block.startswith("experiments:")
]


@pytest.mark.parametrize("block", FRAGMENTS)
def test_entries_of_the_pages_are_valid(block):
    """Fragments of configuration in the pages are valid."""
    entries = yaml.safe_load(block)
    sigmoid = {"model": {"name": "mnist_cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    settings = entries if set(entries) <= set(Experiment.model_fields) else {"variants": entries}
    attacks = {norm: {"name": "fgsm", "norm": norm, "epsilons": [0.1, 0.3, 1.0]} for norm in ("linf", "l2")}
    base = {"dataset": {"source": "sklearn_digits"}, "variants": {"any": sigmoid}, "attacks": attacks}
    Experiment.model_validate(base | settings)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_of_the_readme_compiles(block):
    """The README's Python snippets are valid syntax."""
    ast.parse(block)


def test_the_query_of_the_readme_runs(tmp_path, monkeypatch):
    """The README's query names existing columns and files."""
    from gauntlet.core.parquet import write_table
    from gauntlet.core.schemas import EVALUATION_SCHEMA
    from gauntlet.pipeline import paths

    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    finish_cells(tmp_path)
    write_table(paths.evaluations("digits"), EVALUATION_SCHEMA.empty_table(), {})
    query = re.search(r'duckdb\.sql\("""(.*?)"""\)', README, flags=re.DOTALL)[1]
    assert duckdb.sql(query).columns == ["variant", "attack", "robust_accuracy"]


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
