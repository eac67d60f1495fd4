"""Recurrent layers have gradients in evaluation mode: cuDNN is off in their forward, and nowhere else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.core.recurrent import enable_recurrent_gradients, recurrent_gradients
from gauntlet.learning.data.splits import Split
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import LayerHead, LipschitzClaim, Network
from gauntlet.learning.training.adversary import build_adversary, draw_keys, perturbed_images
from gauntlet.learning.training.validation import robust_metrics
from gauntlet.registry import ADVERSARIES, Spec
from gauntlet.robustness.certificates.lipschitz_check import measure_lipschitz
from gauntlet.robustness.diagnostics.plain_pgd import plain_gradients
from gauntlet.robustness.diagnostics.probed_model import ProbedModel
from gauntlet.robustness.inspection.inspector import inspect_network
from gauntlet.robustness.judge import CellIdentity
from gauntlet.robustness.networks import frozen_copy, usable_network

CPU = torch.device("cpu")
SEEN: list[tuple[str, bool, bool]] = []
"""Layers in the order of their passes, whether gradients were enabled, and whether cuDNN was."""


def seen(name: str) -> None:
    """Record the settings inside a layer."""
    SEEN.append((name, torch.is_grad_enabled(), torch.backends.cudnn.enabled))


@torch.jit.ignore
def seen_in_script(x):  # TorchScript reads no annotations that are strings here.
    """Record the settings inside a scripted network; x is a tensor."""
    seen("recurrent")
    return x


class Convolution(nn.Conv2d):
    """A convolution that records the settings."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images."""
        seen("convolution")
        return super().forward(x)


class Recurrent(nn.GRU):
    """A recurrent layer that records the settings."""

    def forward(self, x: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs and the last state."""
        seen("recurrent")
        return super().forward(x, start)


class Rows(nn.Module):
    """A recurrent layer over the rows of 4 channels of images, two modules deep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"rows": Recurrent(32, 10, batch_first=True)})

    def forward(self, x: Tensor) -> Tensor:
        """Map channels `(B, 4, 8, 8)` to logits."""
        return 9 * self.layers["rows"](x.transpose(1, 2).flatten(2))[0][:, -1]


class Script(nn.Module):
    """A recurrent network that can be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 10, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 8, 8)` to logits."""
        return self.rows(seen_in_script(x[:, 0]))[0][:, -1]


@pytest.fixture
def network() -> Network:
    """A convolution, a recurrent layer and another convolution, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Unflatten(1, (10, 1, 1)), Convolution(10, 10, 1), nn.Flatten())
        body = nn.Sequential(Convolution(1, 4, 3, padding=1), Rows())
    return Network(normalization=Normalization([0.5], [0.5]), body=body, head=LayerHead(head)).eval()


@pytest.fixture
def split(network: Network) -> Split:
    """A few images and the classes that the network predicts."""
    images = torch.randint(256, (12, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split(images, network(images / 255).argmax(1).detach())


def evaluation(network: Network, split: Split) -> None:
    """Attack the network."""
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.01], "steps": 2}
    gauntlet.evaluate(network, split.images, split.labels, attack)


def diagnosis(network: Network, split: Split) -> None:
    """Take gradients as the probes do."""
    identity, images = CellIdentity(), split.images / 255
    model = ProbedModel.build(
        network, images, split.labels, [0, 1, 2], identity=identity, device=CPU, batch_size=2, draws=1
    )
    model.plain_pgd("linf", 0.01, 2)
    model.pgd("linf", 0.01, torch.ones(3, dtype=torch.bool), steps=2)


def validation(network: Network, split: Split) -> None:
    """Validate under an adversary, as a training does."""
    adversary = build_adversary(Spec("pgd", ADVERSARIES.entry("pgd").options_model(epsilon=0.01).model_dump()))
    keys = draw_keys(len(split), "test", device=CPU)
    robust_metrics(network, build_loss(Spec("cross_entropy")), split, adversary, keys=keys, batch_size=6)


def inspection(network: Network, split: Split) -> None:
    """Inspect the network."""
    inspect_network(network, split, device=CPU)


def lipschitz(network: Network, split: Split) -> None:
    """Measure a Lipschitz constant."""
    measure_lipschitz(network, split.images / 255, LipschitzClaim(1.0, "l2", "joint"))


@pytest.mark.parametrize("use", [evaluation, diagnosis, validation, inspection, lipschitz])
def test_cudnn_is_off_in_recurrent_layers_alone(
    network: Network, split: Split, use: Callable[[Network, Split], None]
) -> None:
    """Only in passes with gradients; those without keep cuDNN. The network is not changed."""
    before = [dict(vars(module)) for module in network.modules()]
    SEEN.clear()
    use(network, split)
    assert ("recurrent", True, False) in SEEN
    assert ("convolution", True, True) in SEEN
    assert ("recurrent", True, True) not in SEEN
    assert all(cudnn for name, gradients, cudnn in SEEN if name == "convolution" or not gradients)
    assert torch.backends.cudnn.enabled
    for module, variables in zip(network.modules(), before, strict=True):
        assert vars(module).keys() == variables.keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_training_keeps_cudnn(network: Network, split: Split) -> None:
    """In training mode cuDNN has gradients; the inner loop of TRADES is in evaluation mode."""
    images, keys = split.images / 255, draw_keys(len(split), "test", device=CPU)
    for name, cudnn in (("pgd", True), ("trades", False)):
        adversary = build_adversary(Spec(name, ADVERSARIES.entry(name).options_model(epsilon=0.01).model_dump()))
        SEEN.clear()
        loss = build_loss(Spec("cross_entropy"))
        perturbed_images(adversary, network.train(), loss, images, split.labels, keys=keys)
        assert {entry[2] for entry in SEEN if entry[:2] == ("recurrent", True)} == {cudnn}


def test_a_layer_that_raises_leaves_cudnn_and_the_network_as_they_were(network: Network) -> None:
    """Whatever it raises, and also where the layer has a forward of its own."""
    layer = network.get_submodule("body.1.layers.rows")

    def forward(*_: Tensor) -> None:
        assert not torch.backends.cudnn.enabled
        raise KeyboardInterrupt

    layer.forward = forward
    with pytest.raises(KeyboardInterrupt), recurrent_gradients(network):
        network(torch.rand(1, 1, 8, 8))
    assert torch.backends.cudnn.enabled
    assert layer.forward is forward


@pytest.mark.parametrize("deterministic", [True, False])
def test_other_settings_of_cudnn_are_kept(
    network: Network, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside the layer too, and a caller who has switched cuDNN off finds it off."""
    inside: list[tuple[bool, bool]] = []
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    layer = network.get_submodule("body.1.layers.rows")
    original = layer.forward

    def forward(*given: Tensor) -> tuple[Tensor, Tensor]:
        inside.append((torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark))
        return original(*given)

    layer.forward = forward
    with recurrent_gradients(network):
        network(torch.rand(1, 1, 8, 8))
    assert inside == [(deterministic, not deterministic)]
    assert not torch.backends.cudnn.enabled


def test_a_copy_of_a_copy_computes_with_its_own_weights(network: Network) -> None:
    """Its forward is that of its own layers; the same layer is changed once."""
    frozen = frozen_copy(network, CPU, torch.float32)
    again = copy.deepcopy(frozen)
    assert enable_recurrent_gradients(again) == []
    with torch.no_grad():
        for parameter in again.get_submodule("body.1.layers.rows").parameters():
            parameter.zero_()
    x = torch.rand(2, 1, 8, 8)
    # Without gradients of parameters, recurrent layers have another kernel on some processors, which rounds otherwise.
    network.requires_grad_(False)
    assert torch.equal(frozen(x), network(x))
    assert not torch.equal(again(x), network(x))


@pytest.mark.parametrize("freeze", [False, True])
def test_scripted_networks_run_without_cudnn(freeze: bool) -> None:
    """Their layers cannot be reached, so that the whole network does; gradients are those of the plain one."""
    plain = Script().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(plain)
        scripted = torch.jit.freeze(scripted) if freeze else scripted
    x, y = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
    copied = frozen_copy(usable_network(scripted), CPU, torch.float32)
    SEEN.clear()
    _, gradient = plain_gradients(copied, x, y)
    assert SEEN == [("recurrent", True, False)]
    assert torch.allclose(gradient, plain_gradients(plain, x, y)[1], atol=1e-6)
