"""Logits of a stored network for fixed images, compared when it is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.reference import COUNT, check_reference, reference_images, reference_logits
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.registry import Spec
from gauntlet.robustness.preflight import check_trainable
from tests.support import ROOT

UNSOUND = ["OfModule", "OfClass", "OfLastConstruction", "OfCache", "OfCacheAtConstruction", "OfHashes"]
SOUND = ["Unused", "OfSeededModule", "Registered"]
SHAPE: dict[str, Any] = {"image_shape": (1, 8, 8), "num_classes": 4, "mean": (0.3,), "std": (0.4,)}


def built(name: str, seed: int = 1) -> Network:
    """Build a network of `tests/support`, by module and class."""
    return build(Spec(f"tests.support.{name}"), **SHAPE, seed=seed).eval()


def rows_of(network: Network) -> list[list[float]]:
    """Return the logits of a network for the reference images."""
    rows: list[list[float]] = reference_logits(network).tolist()
    return rows


def check(network: Network, rows: list[list[float]]) -> None:
    """Compare a network with stored rows."""
    check_reference(network, tuple(map(tuple, rows)), name="it", where="there")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (1, 1, 1)])
def test_the_images_are_fixed(shape: tuple[int, int, int]) -> None:
    """They differ from each other, are in [0, 1], and depend on the shape alone."""
    images = reference_images(shape)
    assert images.shape == (COUNT, *shape)
    assert (images.amin() >= 0) & (images.amax() <= 1)
    assert len(images.unique(dim=0)) == COUNT
    torch.manual_seed(5)
    assert torch.equal(images, reference_images(shape))


def test_the_images_stay_as_they_are() -> None:
    """Others would refuse every model that is stored."""
    stored = [0.060296, 0.566479, 0.891425, 0.660451]
    assert reference_images((1, 8, 8))[:, 0, 3, 5].tolist() == pytest.approx(stored, abs=1e-6)


def test_rounding_is_no_other_network() -> None:
    """Differences of rounding in all rows are accepted, and a larger one in a row of a quantized network."""
    network = built("process_networks:Unused")
    rows = rows_of(network)
    check(network, [[value * (1 + 1e-4) for value in row] for row in rows])
    check(network, [[value + 1.0 for value in rows[0]], *rows[1:]])
    with pytest.raises(InputError, match=r"^there: it, built now, is another network than the one that was trained"):
        check(network, [[value * 1.01 for value in row] for row in rows])


def test_rounding_of_half_precision_is_no_other_network() -> None:
    """The tolerance follows the type of the logits."""

    class Coarse(Network):
        def __init__(self, network: Network) -> None:
            super().__init__(normalization=network.normalization, body=network.body, head=network.head)
            self.description = network.description

        def outputs(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(self.normalization(x)).to(torch.bfloat16)

    network = Coarse(built("process_networks:Unused")).eval()
    check(network, [[value * 1.02 for value in row] for row in rows_of(network)])
    with pytest.raises(InputError, match="another network"):
        check(network, [[value + 1.0 for value in row] for row in rows_of(network)])


@pytest.mark.parametrize("name", ["process_networks:Registered", "unsound_networks:Noise", "unsound_networks:Lazy"])
def test_a_sound_network_is_loaded(tmp_path: Path, name: str) -> None:
    """Also a random one, whose draws are seeded; the global generators do not change."""
    network = built(name)
    state = torch.get_rng_state()
    save_model(network.train(), tmp_path)
    assert network.training
    assert len(json.loads((tmp_path / "manifest.json").read_text())["reference"]) == COUNT
    assert rows_of(load_model(tmp_path)) == rows_of(network.eval())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_without_stored_logits_is_loaded(tmp_path: Path) -> None:
    """Earlier versions stored none."""
    save_model(built("process_networks:Unused"), tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["reference"]
    path.write_text(json.dumps(manifest))
    load_model(tmp_path)
    path.write_text(json.dumps({**manifest, "reference": [[0.0] * 3] * COUNT}))
    with pytest.raises(InputError, match="is not a manifest of a stored network"):
        load_model(tmp_path)


def test_what_is_not_finite_is_not_compared(tmp_path: Path) -> None:
    """No logit that is not finite is written."""
    network = built("process_networks:Unused")
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    save_model(network, tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["reference"] is None
    load_model(tmp_path)


def test_a_network_that_cannot_be_copied_is_compared_with_the_one_that_is_loaded(tmp_path: Path) -> None:
    """After its training, a network may keep what cannot be copied or moved; its weights are asked in another one."""
    network = built("process_networks:Unused")
    network.kept = iter(network.parameters())
    save_model(network, tmp_path)
    rows = json.loads((tmp_path / "manifest.json").read_text())["reference"]
    assert rows == [pytest.approx(row, rel=1e-5) for row in rows_of(network)]


def test_the_loaded_network_has_seen_no_image(tmp_path: Path) -> None:
    """A tensor that a network makes for the device of its first images is not made by the comparison."""
    save_model(built("process_networks:Grid"), tmp_path)
    assert load_model(tmp_path).body.grid is None


SAVE = """
import sys
from tests.learning.models.test_reference import UNSOUND, SOUND, built
from gauntlet.learning.models.weights import save_model
from gauntlet.robustness.preflight import check_stored, check_trainable
from pathlib import Path
import torch

for name in UNSOUND + SOUND:
    built(f"process_networks:{name}", seed=0)
    network = built(f"process_networks:{name}", seed=1)
    check_trainable(network, seed=1)
    check_stored(network.eval(), torch.rand(4, 1, 8, 8))
    save_model(network, Path(name))
"""
"""Program that stores networks of seed 1, after others of seed 0; the checks of a training accept them."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with networks that another process has stored."""
    folder = tmp_path_factory.mktemp("stored")
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    environment["PYTHONPATH"] = f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"
    subprocess.run([sys.executable, "-c", SAVE], cwd=folder, env=environment, check=True)
    return folder


@pytest.mark.parametrize("name", UNSOUND)
def test_a_network_that_is_another_one_in_this_process_is_refused(stored: Path, name: str) -> None:
    """One line names the folder, the kind of state and the remedy."""
    with pytest.raises(InputError, match=r"another network than the one that was trained.*persistent buffer") as caught:
        load_model(stored / name)
    assert str(caught.value).startswith(f"{stored / name}: tests.support.process_networks:{name}, built now, is")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SOUND)
def test_a_network_that_is_the_same_in_this_process_is_loaded(stored: Path, name: str) -> None:
    """Its draws at module level have no effect, are seeded, or are stored."""
    network = load_model(stored / name)
    rows = json.loads((stored / name / "manifest.json").read_text())["reference"]
    assert rows == [pytest.approx(row, rel=1e-4) for row in rows_of(network)]


MODULE = """
import random
import numpy as np, torch
from tests.support.unsound_networks import Base

DRAWN = torch.randperm(64), np.random.rand(3), random.random()

class Net(Base):
    pass
"""


def test_draws_of_an_import_change_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first network of a file has the weights of the second, and its draws are those of any other process."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []
    for name in ("drawing_one", "drawing_two"):
        (tmp_path / f"{name}.py").write_text(MODULE)
        torch.manual_seed(len(modules))
        state = torch.get_rng_state()
        network = build(Spec(f"{name}:Net"), **SHAPE, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        check_trainable(network, seed=1)
        modules.append(sys.modules.pop(name))
    first, second = (module.DRAWN for module in modules)
    assert torch.equal(first[0], second[0])
    assert (first[1] == second[1]).all()
    assert first[2] == second[2]


PART = """
import torch
from torch import nn

DRAWN = torch.rand(7)

class Relu(nn.ReLU):
    pass
"""


def test_draws_of_the_import_of_a_part_change_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do those of an activation's file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "drawing_part.py").write_text(PART)
    spec = Spec("vgg", {"depth": 3, "capacity": 0.05, "activation": {"name": "drawing_part:Relu"}})
    first, second = (build(spec, **SHAPE, seed=1).state_dict() for _ in range(2))
    sys.modules.pop("drawing_part")
    assert all(torch.equal(value, second[key]) for key, value in first.items())
