"""Large batches in chunks: equal outputs and gradients, for networks whose samples are independent."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gauntlet.learning.models.build import build
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.network import Network
from gauntlet.learning.training import objective as parts
from gauntlet.learning.training.objective import outputs_in_chunks
from gauntlet.registry import Spec

COUNT = 10


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of four images."""
    monkeypatch.setattr(parts, "CHUNK", 4)


def built(spec: Spec) -> Network:
    """Return a network in float64, in training mode."""
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,)).double()


def images(count: int = COUNT) -> Tensor:
    """Random images, float64."""
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sizes_seen(network: Network, batch: Tensor) -> list[int]:
    """Record the number of images of each pass through the normalization."""
    seen: list[int] = []
    network.normalization.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    outputs_in_chunks(network, batch)
    return seen


class BatchNormalized(Network):
    """Registered network with batch statistics."""

    def __init__(self) -> None:
        body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        super().__init__(normalization=nn.Identity(), body=body, head=build_head(None, in_features=72, num_classes=10))


class UserNet(nn.Module):
    """User-defined module without declarations."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.layer(x.flatten(1))
        return logits


@pytest.mark.parametrize("name", ["cnn", "lipschitz_cnn"])
def test_outputs_and_gradients_are_those_of_the_whole_batch(name: str) -> None:
    """They agree to rounding in float64, and constrained layers end with the same buffers."""
    whole = built(Spec(name))
    parted, batch = copy.deepcopy(whole), images()
    direction = torch.randn(COUNT, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, outputs = whole.outputs(batch), outputs_in_chunks(parted, batch)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    for result in (expected, outputs):
        (result * direction).sum().backward()
    for one, other in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=1e-11)
    for one, other in zip(whole.buffers(), parted.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


def test_parametrized_weights_are_computed_once_per_batch() -> None:
    """They are not computed again for each chunk."""
    network = built(Spec("lipschitz_cnn"))
    computed: list[int] = []
    network.body[0].parametrizations.weight[0].register_forward_hook(lambda *_: computed.append(1))  # type: ignore[index,union-attr]
    outputs_in_chunks(network, images())
    assert len(computed) == 1
    outputs_in_chunks(network, images())
    assert len(computed) == 2


def test_independent_samples_go_through_in_parts_and_small_batches_whole() -> None:
    """Ten images are chunks of four, four and two; four are one chunk."""
    assert sizes_seen(built(Spec("cnn")), images()) == [4, 4, 2]
    assert sizes_seen(built(Spec("cnn")), images(4)) == [4]


def test_batch_statistics_and_modules_of_users_see_the_whole_batch() -> None:
    """Samples of such networks may depend on each other."""
    assert sizes_seen(BatchNormalized().double(), images()) == [COUNT]
    assert sizes_seen(built(Spec(f"{__name__}:UserNet")), images()) == [COUNT]
