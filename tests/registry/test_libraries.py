"""Networks of torchvision and timm by name, and names that packages re-export, read from source."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from gauntlet.config.variants import Variant
from gauntlet.core.errors import InputError
from gauntlet.registry import MODELS
from gauntlet.registry.libraries import builder_names, data_set_names

LIBRARIES = ["torchvision", "timm"]


def test_networks_of_torchvision_are_those_that_it_lists() -> None:
    """The names found in its text are those of its own function, which imports torch."""
    import torchvision

    assert builder_names("torchvision.models") == torchvision.models.list_models(module=torchvision.models)


def test_networks_of_timm_are_those_that_it_lists() -> None:
    """The names found in its text are those of its own function, deprecated ones aside."""
    import timm

    assert set(builder_names("timm.models")) >= set(timm.list_models())


@pytest.mark.parametrize("library", LIBRARIES)
def test_options_are_checked_without_importing_the_library(library: str) -> None:
    """The names are those of the class that the function returns; neither torch nor the library is imported."""
    code = f"""
import sys
from gauntlet.registry import MODELS
names = [option.name for option in MODELS.entry("{library}:resnet18").options]
assert "norm_layer" in names
assert not {{"weights", "pretrained", "progress", "num_classes", "layers"}} & set(names), names
assert not {{"torch", "torchvision", "timm"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_unknown_network_of_a_library_is_refused_with_the_nearest_one(library: str) -> None:
    """The error suggests the most similar name."""
    with pytest.raises(InputError, match=rf"{library}\.models has no model 'resnet81'; did you mean 'resnet\d"):
        MODELS.entry(f"{library}:resnet81")


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package timm is an optional extra."""
    monkeypatch.setattr("gauntlet.registry.registry.module_file", lambda _module: None)
    with pytest.raises(InputError, match="model 'timm:resnet18' needs the package timm; install timm"):
        MODELS.entry("timm:resnet18")


def test_only_options_that_are_set_reach_the_library() -> None:
    """Its function may have other defaults than the class, e.g. a stochastic depth of 0.1 in place of 0."""
    assert Variant(model="torchvision:convnext_tiny").model.options == {}
    given = {"name": "torchvision:convnext_tiny", "stochastic_depth_prob": 0.2}
    assert Variant(model=given).model.options == {"stochastic_depth_prob": 0.2}


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("resnet18", {"width": 2}, r"unknown key.*width_per_group"),
        ("resnet18", {"weights": "IMAGENET1K_V1"}, "unknown key"),
        ("vit_b_16", {"dropout": "much"}, "number"),
        ("vit_b_16", {"image_size": 32}, "unknown key"),
        ("efficientnet_b0", {"dropout": "much"}, "number"),
        ("convnext_tiny", {"stochastic_depth": 0.1}, "unknown key.*did you mean 'stochastic_depth_prob'"),
    ],
)
def test_wrong_options_of_a_library_are_refused(name: str, option: dict[str, object], message: str) -> None:
    """Names and types are checked, those that a function reads from its ``**kwargs`` too."""
    with pytest.raises(ValidationError, match=message):
        Variant(model={"name": f"torchvision:{name}", **option})


def test_a_name_that_a_package_re_exports_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, renamed, by a star, in a ``try`` and through several packages; a private name needs ``__all__``."""
    package = tmp_path / "re_exports"
    (package / "parts").mkdir(parents=True)
    init = "from .one import small\nfrom .one import small as renamed\nfrom .parts import *\n"
    init += "try:\n    from .one import tried\nexcept ImportError:\n    tried = None\n"
    (package / "__init__.py").write_text(init)
    (package / "one.py").write_text("def small(width: int = 3): ...\ndef tried(): ...\n")
    (package / "parts" / "__init__.py").write_text("from .two import *\nfrom .three import *\n")
    (package / "parts" / "two.py").write_text("def public(): ...\ndef _private(): ...\n")
    (package / "parts" / "three.py").write_text("__all__ = ['listed']\ndef listed(): ...\ndef unlisted(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    defined = {
        name: MODELS.entry(f"re_exports:{name}").module for name in ("small", "renamed", "tried", "public", "listed")
    }
    assert defined == {
        "small": "re_exports.one",
        "renamed": "re_exports.one",
        "tried": "re_exports.one",
        "public": "re_exports.parts.two",
        "listed": "re_exports.parts.three",
    }
    assert MODELS.load("re_exports:renamed").__name__ == "small"
    for name in ("_private", "unlisted"):
        with pytest.raises(InputError, match=f"defines no class or function '{name}'"):
            MODELS.entry(f"re_exports:{name}")


def test_data_sets_of_torchvision_are_those_that_its_source_reads():
    """The names that are read from the text are those that the imported package has."""
    from torchvision import datasets

    classes = {name: found for name in datasets.__all__ if inspect.isclass(found := getattr(datasets, name))}
    rooted = {name for name, found in classes.items() if "root" in inspect.signature(found).parameters}
    assert set(data_set_names()) == rooted
