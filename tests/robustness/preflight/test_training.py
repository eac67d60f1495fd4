"""Preflight before a training: networks that would be others after they are stored and loaded are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.memory_format import set_memory_format
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.registry import Spec
from gauntlet.robustness.preflight import check_stored, check_trainable
from tests.support.unsound_networks import Base

SHAPE: dict[str, Any] = {"image_shape": (1, 6, 6), "num_classes": 4, "mean": (0.3,), "std": (0.4,)}
NOISE = torch.rand(9, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def built(name: str, seed: int = 1) -> Network:
    """Build a network of `tests/support/unsound_networks.py`, or a registered one."""
    spec = Spec(f"tests.support.unsound_networks:{name}") if name[0].isupper() else Spec(name)
    return build(spec, **SHAPE, seed=seed)


def logits(network: Network) -> Tensor:
    """Return the logits of a network in evaluation mode."""
    with torch.no_grad():
        outputs: Tensor = network.eval()(NOISE)
    return outputs


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Permutation", "has state that its state dict lacks.*persistent buffer"),
        ("UnstoredBuffer", "has state that its state dict lacks"),
        ("NumpyScale", "has state that its state dict lacks"),
        ("PythonFloat", "has state that its state dict lacks"),
        ("Closure", "has state that its state dict lacks"),
        ("UnregisteredLayers", "has state that its state dict lacks.*each layer as a module"),
        ("RunningMean", "has state that its state dict lacks"),
        ("TrainingSteps", "has state that its state dict lacks"),
        ("OwnGenerator", "has other weights each time it is built with the same seed"),
        ("ExtraState", "entry in its state dict that cannot be stored"),
        ("BatchCentered", "outputs for an image depend on the batch it is in"),
        ("Noise", "set `draws: 20`"),
    ],
)
def test_a_network_that_would_not_survive_is_refused(name: str, complaint: str) -> None:
    """State outside the state dict, whatever holds it, weights without a seed and rows that depend on the batch."""
    with pytest.raises(InputError, match=complaint) as caught:
        check_trainable(built(name), seed=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Base", "StoredPermutation", "Lazy", "Normalized", "Scripted", "cnn", "lipschitz_cnn"]
)
def test_a_sound_network_is_accepted_and_not_changed(name: str) -> None:
    """Neither weights, statistics nor mode change, nor torch's generator."""
    network = built(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    check_trainable(network, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_random_network_is_accepted_with_draws() -> None:
    """With `draws` its noise is addressed, so that nothing depends on the batch."""
    check_trainable(built("Noise"), seed=1, draws=20)
    with pytest.raises(InputError, match="certify only models that are not random"):
        check_trainable(built("Noise"), seed=1, draws=20, certified=True)


@pytest.mark.parametrize("name", ["Lazy", "Base", "NumpyScale", "PythonFloat"])
def test_the_seed_decides_the_weights(name: str) -> None:
    """Three builds with one seed are equal, also with lazy layers and draws of NumPy and Python."""
    first, *others = (logits(built(name)) for _ in range(3))
    assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(first, logits(built(name, seed=2)))


def test_a_network_is_loaded_with_the_seed_it_was_built_with(tmp_path: Path) -> None:
    """So it is the same even if an older version stored it without the check of its state."""
    network = built("Permutation", seed=5)
    save_model(network, tmp_path)
    assert torch.equal(logits(load_model(tmp_path)), logits(network))


@pytest.mark.parametrize(
    ("name", "returned"), [("Auxiliary", "tuple"), ("TrainingDict", "dict"), ("TrainingNone", "NoneType")]
)
def test_other_outputs_in_training_are_refused_when_the_network_is_built(name: str, returned: str) -> None:
    """One line says what is returned, in which mode."""
    with pytest.raises(
        InputError, match=f"returns {returned} for two images in training mode, expected .*return the log"
    ):
        built(name)


class LateState(Base):
    """A scale as a plain attribute, changed after many training passes: no step before the training shows it."""

    passes, scale = 0, 1.0

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        self.passes += self.training
        self.scale = 2.0 if self.passes > 50 else self.scale
        return super().forward(x) * self.scale


def test_state_that_appears_late_is_found_after_the_training() -> None:
    """The trained network is compared with itself, stored and loaded."""
    name = f"{__name__}:LateState"
    network = build(Spec(name), **SHAPE, seed=1)
    check_trainable(network, seed=1)
    check_stored(network.eval(), NOISE)
    network.train()
    for _ in range(60):
        network(NOISE)
    with pytest.raises(InputError, match="has state that its state dict lacks"):
        check_stored(network.eval(), NOISE)


class FormatDependent(Base):
    """Outputs that change with the memory format of a kernel, as rounding does when a head of codes amplifies it."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.kernel = nn.Parameter(torch.ones(4, 3, 2, 2))

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x) * (1 + 0.001 * self.kernel.stride(1))


def test_a_trained_network_is_compared_with_itself_in_the_same_memory_format() -> None:
    """Training may leave the weights in channels last; a network that is built again is contiguous."""
    network = build(Spec(f"{__name__}:FormatDependent"), **SHAPE, seed=1).eval()
    for memory_format in (torch.channels_last, torch.contiguous_format):
        set_memory_format(network, memory_format)
        check_stored(network, NOISE)


def test_building_leaves_running_statistics_as_they_are() -> None:
    """The pass in training mode is undone."""
    statistics = built("Normalized").state_dict()
    assert not statistics["body.layers.1.running_mean"].any()
    assert int(statistics["body.layers.1.num_batches_tracked"]) == 0
