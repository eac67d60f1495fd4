"""Registries that read components from source code without importing it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import ValidationError

from gauntlet.core.errors import InputError
from gauntlet.registry import ATTACKS, Registry
from gauntlet.registry import registries as registry
from gauntlet.registry.adapters import foolbox_tags
from gauntlet.registry.source_code import exported, locate

REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
COMPONENTS = [(kind, name) for kind, one in REGISTRIES.items() for name in one.names()]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules to a folder on the import path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))

    return write


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda value: str(value))
def test_every_component_loads_and_is_documented(kind, name):
    """The entry read from source is what the import gives; it has a docstring, and a method cites its source."""
    entry = REGISTRIES[kind].entry(name)
    loaded = REGISTRIES[kind].load(name)
    assert (loaded.__module__, loaded.__qualname__) == (entry.module, entry.attribute)
    assert entry.doc.endswith(".")
    assert entry.tags.get("source") or kind == "FIGURES", f"{kind} {name} cites no source"


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda value: str(value))
def test_every_option_has_a_type_that_is_checked(kind, name):
    """Every option has a type annotation that the registry understands."""
    entry = REGISTRIES[kind].entry(name)
    for option in entry.options or ():
        field = entry.options_model.model_fields[option.name]
        assert "Any" not in str(field.annotation), f"{name}.{option.name}"


def test_no_registry_is_empty():
    """Every registry finds its components; one whose folder was moved would be silently empty."""
    assert {kind for kind, one in REGISTRIES.items() if not one.names()} == set()


def test_registries_are_read_without_importing_torch():
    """Reading a registry does not import torch."""
    code = (
        "import sys; from gauntlet.registry import ATTACKS, MODELS; ATTACKS.entry('foolbox:LinfPGD'); MODELS.names();"
    )
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    """The error suggests the most similar name."""
    with pytest.raises(InputError, match="unknown attack 'pgdd'; did you mean 'pgd'"):
        ATTACKS.entry("pgdd")
    with pytest.raises(InputError, match="did you mean 'LinfPGD'"):
        ATTACKS.entry("foolbox:LinfPDG")


def test_an_import_path_is_described_without_importing_it(package):
    """A user's module is read, not executed; base classes and aliases are followed."""
    package("base_nets", "class Base:\n    def __init__(self, *, width: int = 3): ...")
    package(
        "user_nets",
        "from base_nets import Base\nraise RuntimeError('imported')\nclass Wide(Base): ...\nNet = Wide",
    )
    importlib.invalidate_caches()
    entry = registry.MODELS.entry("user_nets:Net")
    assert (entry.module, entry.attribute, entry.options[0].name) == ("user_nets", "Wide", "width")
    with pytest.raises(ValidationError, match="valid integer"):
        entry.options_model.model_validate({"width": "wide"})
    with pytest.raises(InputError, match="defines no class or function 'Nett'; did you mean 'Net'"):
        registry.MODELS.entry("user_nets:Nett")
    with pytest.raises(InputError, match="no module 'no_such_module'"):
        registry.MODELS.entry("no_such_module:Net")


def test_registering_twice_is_refused(package, tmp_path):
    """Two components of one name are refused, since the result would depend on the import order."""
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "__init__.py").touch()
    for name in ("one", "two"):
        (tmp_path / "twice" / f"{name}.py").write_text('@ATTACKS.register("same")\ndef attack(): ...\n')
    with pytest.raises(ValueError, match=r"'same' is registered twice: twice\.one and twice\.two"):
        Registry("attack", "ATTACKS", "twice", reserved=set()).names()


def test_numbers_are_strict_and_finite():
    """Quoted numbers, NaN and booleans are refused as numbers."""
    options = ATTACKS.entry("pgd").options_model
    for wrong in ("40", 4.5, True, -1, 0):
        with pytest.raises(ValidationError):
            options.model_validate({"steps": wrong})
    with pytest.raises(ValidationError, match="finite"):
        options.model_validate({"step_size": float("nan")})


def test_every_foolbox_attack_with_a_norm_is_available():
    """Only Foolbox's base class and its attack without a norm are left out."""
    unreached = [name for name in exported("foolbox.attacks") if not foolbox_tags(locate("foolbox.attacks", name))]
    assert unreached == ["Attack", "SpatialAttack"]
    assert ATTACKS.entry("foolbox:L2CarliniWagnerAttack").tags["kind"] == "minimum_norm"
    known = {"kind": "bounded", "norms": ("linf",), "access": "gradient", "losses": ("cross_entropy",)}
    assert ATTACKS.entry("foolbox:LinfPGD").tags == known
    assert ATTACKS.entry("foolbox:L2CarliniWagnerAttack").tags["losses"] == ("margin",)
    assert "losses" not in ATTACKS.entry("foolbox:HopSkipJumpAttack").tags


def test_an_attack_without_its_package_is_refused_at_once(monkeypatch):
    """Foolbox's class imports numba in a `try`, and fails when it is constructed."""
    found = {"foolbox.attacks": Path("a.py")}
    monkeypatch.setattr("gauntlet.registry.registry.module_file", found.get)
    with pytest.raises(InputError, match="'foolbox:L2BrendelBethgeAttack' needs the package numba; install numba"):
        ATTACKS.entry("foolbox:L2BrendelBethgeAttack")
    assert ATTACKS.entry("foolbox:L2PGD").tags.get("requires") is None
