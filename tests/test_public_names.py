"""Names that `gauntlet` exports: all import, none loads torch before it is used, registration works with them."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap

import pytest

import gauntlet
from gauntlet.pipeline.fingerprint import fingerprint
from gauntlet.registry import ATTACKS, HEADS, Registry
from gauntlet.registry import registries as registry
from gauntlet.registry.source_code import imported_from
from tests.support import ROOT

REGISTRIES = {name for name, value in vars(registry).items() if isinstance(value, Registry)}


@pytest.mark.parametrize("name", gauntlet.__all__)
def test_every_name_is_the_object_of_its_module(name):
    """Type checkers and fingerprints see the imported object."""
    assert getattr(gauntlet, name) is getattr(sys.modules[gauntlet.MODULE_OF[name]], name)
    assert imported_from("gauntlet", name) == gauntlet.MODULE_OF[name]
    assert name in dir(gauntlet)


def test_type_checkers_see_the_same_names():
    """The imports under TYPE_CHECKING and the names at run time are one list."""
    tree = ast.parse((ROOT / "src" / "gauntlet" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert sorted(alias.asname for node in block.body for alias in node.names) == gauntlet.__all__
    assert set(gauntlet.__all__) >= REGISTRIES


def test_an_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'gauntlet' has no attribute 'unifrom'"):
        gauntlet.unifrom  # noqa: B018
    with pytest.raises(ImportError):
        from gauntlet import unifrom  # noqa: F401


def test_importing_it_and_its_light_names_loads_no_torch():
    """Registries, types, errors and figures are there in an environment without torch."""
    code = (
        "import sys, gauntlet; from gauntlet import ATTACKS, PositiveInt, InputError, FigureInputs, Style, read_table;"
        "ATTACKS.names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


OWN = {
    "from_names": """
        from gauntlet import ATTACKS, HEADS, Head, PositiveInt, uniform

        @ATTACKS.register("x", kind="bounded", norms=("l2",), access="gradient")
        def attack(model, x, y, *, epsilon, keys, steps: PositiveInt = 3):
            return x + uniform(keys, x.shape[1:], stream="start")

        @HEADS.register("h", outputs=("logits",))
        class Mine(Head): ...
    """,
    "from_attributes": """
        import gauntlet

        @gauntlet.ATTACKS.register("x", kind="bounded", norms=("l2",), access="gradient")
        def attack(model, x, y, *, epsilon, keys, steps: gauntlet.PositiveInt = 3):
            return x + gauntlet.uniform(keys, x.shape[1:], stream="start")

        @gauntlet.HEADS.register("h", outputs=("logits",))
        class Mine(gauntlet.Head): ...
    """,
    "from_aliases": """
        import gauntlet as g
        from gauntlet import ATTACKS as ATTACK, HEADS as HEAD, PositiveInt

        @ATTACK.register("x", kind="bounded", norms=("l2",), access="gradient")
        def attack(model, x, y, *, epsilon, keys, steps: PositiveInt = 3):
            return x + g.uniform(keys, x.shape[1:], stream="start")

        @HEAD.register("h", outputs=("logits",))
        class Mine(g.Head): ...
    """,
    "from_modules": """
        from gauntlet.core.randomness import uniform
        from gauntlet.learning.models.network import Head
        from gauntlet.registry import ATTACKS, HEADS, PositiveInt

        @ATTACKS.register("x", kind="bounded", norms=("l2",), access="gradient")
        def attack(model, x, y, *, epsilon, keys, steps: PositiveInt = 3):
            return x + uniform(keys, x.shape[1:], stream="start")

        @HEADS.register("h", outputs=("logits",))
        class Mine(Head): ...
    """,
}


@pytest.fixture(params=OWN)
def own(request, tmp_path, monkeypatch):
    """The name of a module of a user's own."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_{request.param}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(OWN[request.param]))
    return name


def test_tags_options_and_bases_are_read_however_they_are_imported(own):
    """From names, attributes of the package, aliases, and the modules that define them."""
    attack = ATTACKS.entry(f"{own}:attack")
    assert attack.tags == {"kind": "bounded", "norms": ("l2",), "access": "gradient"}
    assert [option.name for option in attack.options] == ["steps"]
    assert attack.options_model(steps=2).steps == 2
    with pytest.raises(ValueError, match="greater than 0"):
        attack.options_model(steps=0)
    head = HEADS.entry(f"{own}:Mine")
    assert head.tags == {"outputs": ("logits",)}
    assert (ATTACKS.load(f"{own}:attack").__name__, HEADS.load(f"{own}:Mine").__mro__[1]) == ("attack", gauntlet.Head)


def test_a_fingerprint_follows_what_a_module_uses_and_no_more(own):
    """The draws and the base class are reached; evaluation, other attacks and reporting are not."""
    reached = set(fingerprint([own]))
    assert {own, "gauntlet.core.randomness", "gauntlet.learning.models.network"} <= reached
    assert not {module for module in reached if module.startswith(("gauntlet.robustness", "gauntlet.reporting"))}
    assert not reached & {"gauntlet", "gauntlet.api"}


def test_a_star_import_reaches_every_exported_module(tmp_path, monkeypatch):
    """The names that the module uses cannot be read from its text."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_star.py").write_text("from gauntlet import *\n")
    reached = set(fingerprint(["own_star"]))
    assert {"gauntlet.core.randomness", "gauntlet.reporting.figures.style", "gauntlet.api"} <= reached
