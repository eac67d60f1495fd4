"""Stored networks: weights and manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gauntlet.core.errors import InputError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.pipeline.status.metadata import file_metadata
from gauntlet.registry import Spec

SPECS = [
    Spec("cnn", {"widths": [4, 8], "head": {"name": "softmax", "hidden": 8}}),
    Spec("cnn", {"widths": [4], "head": {"name": "ecc", "heads": 4, "hidden": 16}}),
    Spec("lipschitz_cnn", {"widths": [4, 6], "hidden": 8}),
    Spec("lipschitz_cnn", {"output": "disjoint"}),
    Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8, "batch_lip_norm": True, "residual_blocks": 1}),
    Spec("tests.support.user_networks:Plain", {"width": 3}),
    Spec("mnist_cnn", {"widths": [2, 3], "unit": {"name": "elliptical"}, "folding": {"name": "maxout"}}),
    Spec("vgg", {"depth": 3, "capacity": 0.05, "batch_norm": True, "activation": {"name": "relog", "beta": 2.0}}),
]


def built(spec: Spec) -> Network:
    """Return a network whose normalization statistics are no round numbers."""
    return build(spec, image_shape=(2, 8, 8), num_classes=5, mean=(0.1, 1 / 3), std=(0.7, 0.2)).eval()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_loaded_network_has_the_same_outputs(spec: Spec, tmp_path: Path) -> None:
    """Outputs and claim of a loaded network equal those of the saved one."""
    network = built(spec)
    save_model(network, tmp_path)
    loaded = load_model(tmp_path)
    x = torch.rand(20, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), network(x))
    assert loaded.lipschitz == network.lipschitz
    assert not loaded.training
    assert set(loaded.surrogates) == set(network.surrogates)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_same_network_is_stored_as_the_same_bytes(spec: Spec, tmp_path: Path) -> None:
    """Weights and manifest are a function of the network; the recipe is in the weights file only."""
    made = {"seed": "0", "config": "{}", "versions": "x"}
    digest = save_model(built(spec), tmp_path / "one", made)
    assert save_model(built(spec), tmp_path / "two", dict(reversed(made.items()))) == digest
    for name in ("manifest.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    save_model(built(spec), tmp_path / "three", {"seed": "another"})
    assert (tmp_path / "three" / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
    assert file_metadata(tmp_path / "one" / "model.safetensors").items() >= made.items()


def test_the_exported_network_is_stored(tmp_path: Path) -> None:
    """A constrained layer is stored as one plain weight."""
    save_model(built(SPECS[2]), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {name for name in stored if "normalization" not in name} == {
        *(f"body.{layer}.{part}" for layer in (0, 3, 7) for part in ("weight", "bias")),
        "head.layer.weight",
    }


def test_saving_a_loaded_network_changes_nothing(tmp_path: Path) -> None:
    """Loading and saving is the identity, also for an exported network."""
    save_model(built(SPECS[2]), tmp_path / "one")
    save_model(load_model(tmp_path / "one"), tmp_path / "two")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a stored network."""
    save_model(built(SPECS[0]), tmp_path)
    return tmp_path


class Payload:
    """Object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a stranger was here')",)


def test_a_pickle_is_refused_unopened(folder: Path) -> None:
    """A pickled checkpoint runs no code."""
    torch.save({"weights": Payload()}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors.*pickles are refused"):
        load_model(folder)


def test_changed_weights_are_refused(folder: Path) -> None:
    """One flipped bit changes the digest."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="does not match its manifest"):
        load_model(folder)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    """Weights that do not fit the architecture are refused even if the digest matches."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["body.0.weight"]
    save_file(tensors, folder / "model.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "digest": tensor_digest(tensors)}))
    with pytest.raises(InputError, match=r"do not fit cnn: body\.0\.weight"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": {"name": "resnet9000"}}, "unknown model 'resnet9000'"),
        ({"architecture": {"name": "cnn", "widths": ["wide"]}}, "model cnn, option widths"),
        ({"architecture": {"name": "cnn", "head": {"name": "ecc", "heads": -1}}}, "head ecc, option heads"),
        ({"architecture": {"name": "mnist_cnn", "folding": {"name": "maxout", "pieces": 0}}}, "folding maxout, option"),
        ({"architecture": {"name": "mnist_cnn", "unit": {"name": "os:system"}}}, "os:system"),
        ({"architecture": {"name": "os:system"}}, "os:system"),
        ({"architecture": {"name": "subprocess:Popen", "args": "true"}}, "subprocess:Popen"),
        ({"architecture": "cnn"}, "not a manifest"),
        ({"image_shape": [8, 8]}, "not a manifest"),
        ({"format": 99}, "another version"),
    ],
)
def test_a_manifest_that_names_no_network_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    """A manifest is as restricted as a configuration."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        load_model(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """Both files are required."""
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        load_model(folder)


def test_a_network_that_was_not_built_here_cannot_be_saved(tmp_path: Path) -> None:
    """A network without a description cannot be saved, since it could not be loaded."""
    network = built(SPECS[0])
    network.description = None
    with pytest.raises(ValueError, match="build"):
        save_model(network, tmp_path)
