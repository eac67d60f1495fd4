"""The memory format of images: channels last where a network computes the same in it, contiguous elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.judge import CellIdentity, Judge
from gauntlet.robustness.networks import InputFormat

CPU = torch.device("cpu")
IMAGES = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(9, dtype=torch.int64)
MARGIN = UNTARGETED_LOSSES["margin"]


class Layers(nn.Module):
    """A convolution, `flatten` of its features, and a linear layer; it records the formats of its images."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)
        self.flatten = flatten
        self.formats: list[bool] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        self.formats.append(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous())
        return self.linear(self.flatten(self.convolution(x).relu()))


def by_flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def by_view(x: Tensor) -> Tensor:
    return x.view(len(x), -1)


def by_strides(x: Tensor) -> Tensor:
    """Read memory in its order, which raises nothing in channels last and gives other features."""
    return x.as_strided((len(x), 144), (144, 1))


def doubtful(x: Tensor) -> Tensor:
    """Refuse channels last with a message of its own."""
    if not x.is_contiguous():
        raise ValueError("contiguous images, please")
    return x.flatten(1)


FLATTENINGS = pytest.mark.parametrize(
    ("flatten", "last"), [(by_flatten, True), (by_view, False), (by_strides, False), (doubtful, False)]
)


def expected(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    """Return the logits of the network as it is, for contiguous images."""
    with torch.no_grad():
        return network(images.contiguous())


@FLATTENINGS
def test_the_judge_takes_the_format_in_which_the_network_computes_the_same(
    flatten: Callable[[Tensor], Tensor], last: bool
) -> None:
    """A network that takes views, or reads strides, is judged in the format that it was written for."""
    network = Layers(flatten)
    judge = Judge(network, device=CPU)
    found = judge.logits(IMAGES)
    assert torch.allclose(found, expected(network), atol=1e-6)
    network.formats.clear()
    judge.logits(IMAGES)
    assert network.formats == [last]


@FLATTENINGS
def test_attacks_follow_the_gradient_of_the_network_as_it_is(flatten: Callable[[Tensor], Tensor], last: bool) -> None:
    """The copy's gradient is the network's own, in either format, and nothing but the query counts."""
    network = Layers(flatten)
    leaf = IMAGES.clone().requires_grad_(True)
    outputs = network(leaf)
    runner_up = outputs.scatter(1, LABELS[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad((runner_up - outputs[:, 0]).sum(), leaf)
    model = AttackModel(network)
    model.start_counting(len(IMAGES))
    result = model.gradients(IMAGES, LABELS, MARGIN)
    assert torch.allclose(result.gradient, gradient, atol=1e-6)
    assert model.images.current == (torch.channels_last if last else torch.contiguous_format)
    counts = {name: total.tolist() for name, total in model.counts.totals.items()}
    assert counts["forwards"] == counts["backwards"] == [1] * 9
    assert counts["nonfinite_gradients"] == [0] * 9


@FLATTENINGS
def test_certificates_see_the_images_in_the_format_of_the_judge(
    flatten: Callable[[Tensor], Tensor], last: bool
) -> None:
    """Smoothing counts the classes of the network as it is, with equal rows whatever the batches."""
    network = Layers(flatten)
    spec = Spec("smoothing", {"n": 40, "n0": 10, "alpha": 0.05, "sigma": 0.5})
    settings = {"name": "smoothing", "norm": "l2", "identity": CellIdentity()}
    rows = certify(network, IMAGES[:4], LABELS[:4], spec, **settings)
    assert network.formats[-1] is last
    plain = certify(Layers(by_flatten), IMAGES[:4], LABELS[:4], spec, batch_size=7, **settings)
    assert rows.equals(plain)


def test_a_network_and_its_images_stay_as_they_are() -> None:
    """No parameter changes its strides, no hook is left, no generator moves, whatever was tried."""
    for flatten in (by_flatten, by_strides):
        network, images = Layers(flatten), IMAGES.clone()
        strides = [parameter.stride() for parameter in network.parameters()]
        state = torch.get_rng_state()
        model = AttackModel(network)
        model.start_counting(len(images))
        model.gradients(images, LABELS, MARGIN)
        model.confirm(images, LABELS)
        assert [parameter.stride() for parameter in network.parameters()] == strides
        assert not network._forward_hooks
        assert not network._forward_pre_hooks
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(images, IMAGES)
        assert images.is_contiguous()


def test_the_judge_computes_in_ieee_float32_whatever_the_caller_allows() -> None:
    """Also in the passes that compare the formats."""
    seen: list[tuple[str, bool]] = []

    def flatten(x: Tensor) -> Tensor:
        seen.append((torch.backends.mkldnn.conv.fp32_precision, torch.is_autocast_enabled("cpu")))
        return x.flatten(1)

    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            Judge(Layers(flatten), device=CPU).logits(IMAGES)
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before
    assert len(seen) == 3
    assert set(seen) == {("ieee", False)}


def test_images_of_one_channel_reach_a_network_in_channels_last() -> None:
    """Their strides are ambiguous: `contiguous` leaves them, and every later layer would be slow."""
    strides: list[tuple[int, ...]] = []

    class Recorded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            strides.append(x.stride())
            return x.flatten(1)[:, :2] * 3

    images = IMAGES[:, :1].contiguous()
    Judge(Recorded().eval(), device=CPU).logits(images)
    assert strides[-1] == (64, 1, 8, 1)


class Volumes(nn.Module):
    """A network with parameters of four and of five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.flat, self.deep = nn.Conv2d(3, 3, 3, padding=1), nn.Conv3d(1, 4, 3, padding=1)
            self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.linear(self.deep(self.flat(x)[:, None]).relu().mean((2, 3, 4)))
        return logits


def test_parameters_of_five_dimensions_keep_their_format() -> None:
    """Channels last is undefined for them; those of four have the format of the images."""
    network = Volumes().eval()
    model = AttackModel(network)
    model.start_counting(len(IMAGES))
    assert torch.allclose(model.gradients(IMAGES, LABELS, MARGIN).outputs, expected(network), atol=1e-6)
    copy = model.network
    assert isinstance(copy, Volumes)
    assert model.images.current == torch.channels_last
    assert copy.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert not copy.flat.weight.is_contiguous()
    assert copy.deep.weight.is_contiguous()


@pytest.mark.parametrize("failing", [1, 2])
def test_a_comparison_without_memory_is_repeated(failing: int) -> None:
    """Whichever of its passes failed, the next comparison decides."""
    formats, passes = InputFormat(), 0

    def run(x: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        if passes == failing:
            raise MemoryError
        return formats.apply(lambda images: images.mean((2, 3)), x)

    with pytest.raises(MemoryError):
        formats.compare(run, IMAGES)
    assert formats.current == torch.channels_last
    formats.compare(run, IMAGES)
    assert (formats.current, passes) == (torch.channels_last, failing + 2)


@pytest.mark.parametrize("masked", [-1e6, -1e3, 1e6])
@FLATTENINGS
def test_constant_and_masked_classes_do_not_hide_a_difference(
    flatten: Callable[[Tensor], Tensor], last: bool, masked: float
) -> None:
    """Their size is no scale for the classes that are decided between; rounding is, so layers keep channels last."""

    class Masked(Layers):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            constant = torch.full((len(x), 3), masked)
            return torch.cat([logits[:, :3], logits[:, 3:] - 1e6, constant], 1)

    network = Masked(flatten)
    judge = Judge(network, device=CPU)
    judge.logits(IMAGES)
    if masked < 0:
        assert judge.images.current == (torch.channels_last if last else torch.contiguous_format)
    assert torch.equal(judge.logits(IMAGES).argmax(1), expected(network).argmax(1))


@pytest.mark.parametrize(
    "output",
    [
        lambda z: torch.tanh(100 * z),
        lambda z: (100 * z).sigmoid(),
        lambda z: (100 * z).log_softmax(1),
        lambda z: 0 * z,
        lambda z: z + 1e4,
        lambda z: z - z.mean(1, keepdim=True),
        lambda z: torch.stack([z[:, 0], z[:, 0] - 1e6], 1),
    ],
)
def test_networks_of_layers_keep_channels_last_whatever_their_outputs(output: Callable[[Tensor], Tensor]) -> None:
    """Saturated, constant, shifted and centered outputs differ by rounding alone."""

    class Rounded(Layers):
        def forward(self, x: Tensor) -> Tensor:
            return output(super().forward(x))

    judge = Judge(Rounded(by_flatten), device=CPU)
    judge.logits(IMAGES)
    assert judge.images.current == torch.channels_last
