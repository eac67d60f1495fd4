"""Components are known from their source text, without being imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import pytest
from pydantic import ValidationError

from gauntlet.core.errors import InputError
from gauntlet.registry import ATTACKS, Registry
from gauntlet.registry import registries as registry
from gauntlet.registry.foolbox import foolbox_tags
from gauntlet.registry.source_code import exported, locate

REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
COMPONENTS = [(kind, name) for kind, one in REGISTRIES.items() for name in one.names()]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a package on the path whose module raises when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))

    return write


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda value: str(value))
def test_every_component_loads_and_is_documented(kind, name):
    """What the catalogue reads from source is what importing gives; each has a docstring, each method a source."""
    entry = REGISTRIES[kind].entry(name)
    loaded = REGISTRIES[kind].load(name)
    assert (loaded.__module__, loaded.__qualname__) == (entry.module, entry.attribute)
    assert entry.doc.endswith(".")
    assert entry.tags.get("source") or kind == "FIGURES", f"{kind} {name} cites no source"


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda value: str(value))
def test_every_option_has_a_type_that_is_checked(kind, name):
    """No option is left unchecked for want of an annotation the registry understands."""
    entry = REGISTRIES[kind].entry(name)
    for option in entry.options or ():
        field = entry.options_model.model_fields[option.name]
        assert "Any" not in str(field.annotation), f"{name}.{option.name}"


def test_no_registry_is_empty():
    """A registry whose folder was moved would be silently empty."""
    assert {kind for kind, one in REGISTRIES.items() if not one.names()} == set()


def test_catalogue_is_read_without_importing_torch():
    """Checking a configuration costs no import of the heavy packages."""
    code = (
        "import sys; from gauntlet.registry import ATTACKS, MODELS; ATTACKS.entry('foolbox:LinfPGD'); MODELS.names();"
    )
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_unknown_name_is_answered_with_the_nearest_one():
    """A typing error costs a second, not a GPU job."""
    with pytest.raises(InputError, match="unknown attack 'pgdd'; did you mean 'pgd'"):
        ATTACKS.entry("pgdd")
    with pytest.raises(InputError, match="did you mean 'LinfPGD'"):
        ATTACKS.entry("foolbox:LinfPDG")


def test_import_path_is_described_without_running_it(package):
    """A user's module is read, not executed, until it is needed; bases and aliases are followed."""
    package("base_nets", "class Base:\n    def __init__(self, *, width: int = 3): ...")
    package(
        "catalogued_nets",
        "from base_nets import Base\nraise RuntimeError('imported')\nclass Wide(Base): ...\nNet = Wide",
    )
    importlib.invalidate_caches()
    entry = registry.MODELS.entry("catalogued_nets:Net")
    assert (entry.module, entry.attribute, entry.options[0].name) == ("catalogued_nets", "Wide", "width")
    with pytest.raises(ValidationError, match="valid integer"):
        entry.options_model.model_validate({"width": "wide"})
    with pytest.raises(InputError, match="defines no class or function 'Nett'; did you mean 'Net'"):
        registry.MODELS.entry("catalogued_nets:Nett")
    with pytest.raises(InputError, match="no module 'no_such_module'"):
        registry.MODELS.entry("no_such_module:Net")


def test_registering_twice_is_refused(package, tmp_path):
    """Two components of one name would make a result depend on import order."""
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "__init__.py").touch()
    for name in ("one", "two"):
        (tmp_path / "twice" / f"{name}.py").write_text('@ATTACKS.register("same")\ndef attack(): ...\n')
    with pytest.raises(ValueError, match=r"'same' is registered twice: twice\.one and twice\.two"):
        Registry("attack", "ATTACKS", "twice", supplied=set()).names()


def test_numbers_are_strict_and_finite():
    """A quoted number, a NaN and a bool are not numbers."""
    options = ATTACKS.entry("pgd").options_model
    for wrong in ("40", 4.5, True, -1, 0):
        with pytest.raises(ValidationError):
            options.model_validate({"steps": wrong})
    with pytest.raises(ValidationError, match="finite"):
        options.model_validate({"step_size": float("nan")})


def test_every_foolbox_attack_with_a_norm_is_reached():
    """Nothing of Foolbox is left out but its base class and the one attack without a norm."""
    unreached = [name for name in exported("foolbox.attacks") if not foolbox_tags(locate("foolbox.attacks", name))]
    assert unreached == ["Attack", "SpatialAttack"]
    assert ATTACKS.entry("foolbox:L2CarliniWagnerAttack").tags["kind"] == "minimum_norm"
    assert ATTACKS.entry("foolbox:LinfPGD").tags == {"kind": "bounded", "norms": ("linf",), "access": "gradient"}
