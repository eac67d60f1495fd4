"""Preflight of a model: rows depend on the image alone, nothing is changed, and sound models are not refused."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.core.errors import InputError
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.preflight import check_model

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
PGD = {"name": "pgd", "norm": "linf", "epsilons": [0.02, 0.05], "steps": 4}
FEW = {"name": "square", "norm": "linf", "epsilons": [0.05], "queries": 5}


def plain() -> nn.Module:
    """Return a small network, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()


BASE = plain()
with torch.no_grad():
    LABELS = BASE(IMAGES).argmax(1)


class Altered(nn.Module):
    """A network around the plain one; `change` maps it and images to outputs."""

    def __init__(self, change: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change, self.calls = plain(), change, 0
        self.register_buffer("seen", torch.zeros(1))
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Map images to what `change` makes of them."""
        self.calls += 1
        return self.change(self, x)


def rows(model: nn.Module, attack: dict[str, Any] = PGD, **settings: Any) -> pa.Table:
    """Attack all images; check that they are not changed."""
    images = IMAGES.clone()
    table = gauntlet.evaluate(model, images, LABELS, attack, **settings)
    assert torch.equal(images, IMAGES)
    return table


def _count(network: Any, x: Tensor) -> Tensor:
    network.seen += 1
    return network.inner(x)


def _count_outside_autograd(network: Any, x: Tensor) -> Tensor:
    network.seen.data += 1
    return network.inner(x)


def _cached(network: Any, x: Tensor) -> Tensor:
    if not hasattr(network, "cache"):
        network.cache = network.inner(x)
    return network.cache[torch.arange(len(x)) % len(network.cache)]


DEPENDENT = {
    "the batch's mean": lambda n, x: n.inner(x - x.mean(0, keepdim=True)),
    "a little of the batch's mean": lambda n, x: n.inner(x - 1e-3 * x.mean(0, keepdim=True)),
    "the other images' logits": lambda n, x: (z := n.inner(x)) + 1e-3 * z.mean(0),
    "the position": lambda n, x: n.inner(x) + 1e-3 * torch.arange(len(x))[:, None] * torch.arange(10),
    "an even number of images": lambda n, x: n.inner(x) * (1 + 1e-3 * (len(x) % 2)),
    "a batch of one": lambda n, x: n.inner(x + 1e-3 * (len(x) == 1)),
    "a large batch": lambda n, x: n.inner(x + 0.1 * (len(x) > 36)),
    "the first image": lambda n, x: n.inner(x + 1e-3 * x[:1]),
    "batch statistics": lambda n, x: n.inner(nn.functional.batch_norm(x, None, None, training=True)),
    "a cache": _cached,
    "noise of a seed of its own": lambda n, x: n.inner(
        x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ),
}


@pytest.mark.parametrize("change", DEPENDENT.values(), ids=DEPENDENT.keys())
def test_a_row_that_depends_on_the_batch_is_refused(change: Any) -> None:
    """Also where only few predictions move."""
    with pytest.raises(InputError, match="depend on the batch it is in"):
        rows(Altered(change))


@pytest.mark.parametrize("attack", [PGD, FEW], ids=["pgd", "square"])
def test_a_model_that_writes_into_its_input_is_judged_like_one_that_does_not(attack: dict[str, Any]) -> None:
    """Rows are equal, gradients included, and the caller's images stay as they are."""
    expected = rows(Altered(lambda n, x: n.inner(x.clamp(0, 0.6))), attack)
    found = rows(Altered(lambda n, x: n.inner(x.clamp_(0, 0.6))), attack)
    # A result of one channel has other strides than an input that is changed, so that confidences round differently.
    rounded = ["clean_confidence", "adversarial_confidence"]
    assert found.drop_columns(rounded).equals(expected.drop_columns(rounded))
    for name in rounded:
        assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), rel=1e-6)
    assert "adversarial" in expected["status"].to_pylist()


@pytest.mark.parametrize("change", [_count, _count_outside_autograd], ids=["in place", "through .data"])
def test_a_model_that_changes_its_state_is_refused_and_restored(change: Any) -> None:
    """The message names the entry of the state dict."""
    model = Altered(change)
    with pytest.raises(InputError, match=r"changes its own state when it classifies \(seen\)"):
        rows(model)
    assert not model.seen.any()


class Hooked(nn.Module):
    """A network whose hook keeps features for its forward, of the module that registered it."""

    def __init__(self, *, sound: bool) -> None:
        super().__init__()
        self.inner, self.features = plain(), torch.zeros(0)
        self.inner[0].register_forward_hook(self._keep if sound else lambda _m, _i, output: self._keep(_m, _i, output))
        self.eval()

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.features = output.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits, with the features that the hook kept."""
        logits: Tensor = self.inner(x)
        return logits + self.features.flatten(1)[:, :10]


def test_a_copy_that_is_another_model_is_refused() -> None:
    """A closure in a hook reaches the original from the copy that attacks work on; a bound method does not."""
    with pytest.raises(InputError, match="a copy of the model, on which attacks work, gives other outputs"):
        rows(Hooked(sound=False))
    assert len(rows(Hooked(sound=True))) == len(IMAGES)


class Flat(nn.Module):
    """A network that flattens images and features with a method of tensors."""

    def __init__(self, flatten: str) -> None:
        super().__init__()
        self.flatten = flatten
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(144 + 192, 10)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        parts = (self.first(x).relu(), x)
        return self.last(torch.cat([getattr(part, self.flatten)(len(x), -1) for part in parts], 1))


@pytest.mark.parametrize("attack", [PGD, FEW], ids=["pgd", "square"])
def test_views_of_images_and_features_are_allowed(attack: dict[str, Any]) -> None:
    """Many public models flatten with `view`, which only the usual memory format allows."""
    images = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = Flat("view")(images).argmax(1)
    view, reshape = (gauntlet.evaluate(Flat(name), images, labels, attack) for name in ("view", "reshape"))
    assert view["status"].equals(reshape["status"])
    assert np.allclose(view["l2"].to_numpy(), reshape["l2"].to_numpy(), atol=1e-5)


def test_statistics_stay_as_they_are() -> None:
    """An evaluation leaves a model's whole state as it was."""
    model = nn.Sequential(nn.BatchNorm2d(1), plain()).eval()
    before = copy.deepcopy(model.state_dict())
    rows(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_that_remembers_is_not_taken_for_a_random_one() -> None:
    """A counter is no randomness that `draws` could average."""
    with pytest.raises(InputError, match="remembers from earlier passes"):
        rows(Altered(lambda n, x: n.inner(x) * (1 + 1e-3 * n.calls)))
    with pytest.raises(InputError, match="set `draws: 20`"):
        rows(Altered(lambda n, x: nn.functional.dropout(n.inner(x), 0.1, training=True)))


@pytest.mark.parametrize("value", [1.0, 0.5, 0.0])
def test_constant_logits_are_no_probabilities(value: float) -> None:
    """Logits (0, ..., 0, 1) for every image are a poor model, not a softmax."""
    row = torch.full((10,), (1 - value) / 9)
    row[9] = value
    table = rows(Altered(lambda n, x: row.repeat(len(x), 1)), FEW)
    assert len(table) == len(IMAGES)
    with pytest.raises(InputError, match="returns probabilities"):
        gauntlet.evaluate(Altered(lambda n, x: n.inner(x).softmax(1)), IMAGES[:1], LABELS[:1], FEW)


OTHER_OUTPUTS = {
    "int64": lambda z: (100 * z).long(),
    "complex64": lambda z: z.to(torch.complex64),
    "sparse": lambda z: z.to_sparse(),
    "tuple": lambda z: (z, z),
    "dict": lambda z: {"scores": z},
    "NoneType": lambda z: None,
    "ndarray": lambda z: z.detach().numpy(),
}


@pytest.mark.parametrize(("kind", "change"), OTHER_OUTPUTS.items(), ids=OTHER_OUTPUTS.keys())
def test_outputs_of_other_kinds_are_refused(kind: str, change: Any) -> None:
    """One line names what the model returns."""
    with pytest.raises(InputError, match=f"the model returns .*{kind}"):
        rows(Altered(lambda n, x: change(n.inner(x))))


def autocast(network: Any, x: Tensor) -> Tensor:
    """Compute in bfloat16, as many models do in their forward."""
    with torch.autocast("cpu", torch.bfloat16):
        logits: Tensor = network.inner(x)
    return logits


PRECISIONS = {
    "float16": lambda n, x: n.inner(x).half(),
    "bfloat16": lambda n, x: n.inner(x).bfloat16(),
    "float64": lambda n, x: n.inner(x).double(),
    "autocast": autocast,
    "autocast, then float32": lambda n, x: autocast(n, x).float(),
}


@pytest.mark.parametrize("change", PRECISIONS.values(), ids=PRECISIONS.keys())
@pytest.mark.parametrize("attack", [PGD, FEW], ids=["pgd", "square"])
def test_logits_of_any_precision_give_rows(attack: dict[str, Any], change: Any) -> None:
    """Most rows are those of the same model in float32."""
    expected, found = (rows(model, attack)["status"].to_pylist() for model in (BASE, Altered(change)))
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 36


def test_a_model_with_weights_in_half_precision_is_attacked() -> None:
    """It is judged in float32."""
    assert len(rows(plain().half())) == len(IMAGES)


def _exported(model: nn.Module) -> nn.Module:
    dynamic = ({0: torch.export.Dim("batch")},)
    module: nn.Module = torch.export.export(model, (IMAGES[:4],), dynamic_shapes=dynamic).module()
    return module


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, IMAGES[:3]),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "symbolic trace": torch.fx.symbolic_trace,
    "DataParallel": nn.DataParallel,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_wrapped_model_gives_the_rows_of_the_plain_one(wrap: Any) -> None:
    """Scripted, traced, frozen, traced symbolically, parallel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = wrap(plain())
        for attack in (PGD, FEW):
            table, expected = rows(model, attack), rows(BASE, attack)
            assert table["status"].equals(expected["status"])
            assert np.allclose(table["l2"].to_numpy(), expected["l2"].to_numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_gives_the_rows_of_the_plain_one() -> None:
    """It is evaluated as it was before it was compiled."""
    expected = rows(BASE)["status"]
    assert rows(torch.compile(plain()))["status"].equals(expected)  # type: ignore[arg-type]
    assert rows(nn.Sequential(torch.compile(plain()), nn.Identity()).eval())["status"].equals(expected)


@pytest.mark.slow
def test_an_exported_program_gives_the_rows_of_the_plain_model() -> None:
    """Its mode is fixed, so the preflight does not ask for `eval()`; a fixed batch size is refused."""
    assert rows(_exported(plain()))["status"].equals(rows(BASE)["status"])
    with pytest.raises(InputError, match=r"cannot classify 33 images of 1x8x8.*for any B"):
        rows(torch.export.export(plain(), (IMAGES[:4],)).module())


@pytest.mark.slow
def test_a_model_compiled_in_place_is_not_compiled_again() -> None:
    """Its forward is called as it was written."""
    model = plain()
    model.compile()
    assert rows(model)["status"].equals(rows(BASE)["status"])


def test_a_fixed_batch_size_is_refused() -> None:
    """Whatever the size, in one line."""
    for size in (1, 4, 33):
        with pytest.raises(InputError, match=r"cannot classify .*RuntimeError"):
            rows(Altered(lambda n, x, size=size: n.inner(x.view(size, 1, 8, 8))))


def test_a_lazy_layer_without_weights_is_refused() -> None:
    """The remedy is to pass an image through the model."""
    with pytest.raises(InputError, match="lazy layers that have no weights yet"):
        rows(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)).eval())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "vit"])
def test_rounding_of_large_networks_is_no_dependence(name: str) -> None:
    """Networks of torchvision pass at their usual image size, trained or not, with logits of any size."""
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "vit":
            model = models.VisionTransformer(64, 16, 4, 4, 64, 128, num_classes=10)
        else:
            model = getattr(models, name)(num_classes=10)
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for scale in (1e-4, 1.0, 1e4):
        judge = Judge(nn.Sequential(model, Scale(scale)).eval(), device=torch.device("cpu"))
        check_model(judge, images, torch.zeros(8, dtype=torch.int64))


class Scale(nn.Module):
    """Multiplication of the logits."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.factor


def test_the_preflight_of_a_small_network_takes_a_moment() -> None:
    """A few hundredths of a second of CPU."""
    judge = Judge(plain(), device=torch.device("cpu"))
    check_model(judge, IMAGES, LABELS)
    start = time.process_time()
    check_model(judge, IMAGES, LABELS)
    assert time.process_time() - start < 0.3


@pytest.mark.parametrize("share", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_a_small_dependence_is_no_rounding(share: float, batch_size: Any) -> None:
    """In float64 rounding is smaller and dependence is not, whatever the batch size."""
    mixed = Altered(lambda model, x: model.inner(x) + share * model.inner(x).mean(0))
    with pytest.raises(InputError, match="depend on the batch it is in"):
        rows(mixed, batch_size=batch_size)


def test_a_position_far_back_in_a_batch_is_found() -> None:
    """All rows of the first batch are compared with those of small batches."""

    def turned(model: Any, x: Tensor) -> Tensor:
        logits = model.inner(x).clone()
        logits[33:36] = logits[33:36].flip(1)
        return logits

    with pytest.raises(InputError, match="depend on the batch it is in"):
        rows(Altered(turned))


@pytest.mark.parametrize("attack", [PGD, FEW], ids=["pgd", "square"])
def test_a_model_that_switches_gradients_on_gives_the_rows_of_the_plain_one(attack: dict[str, Any]) -> None:
    """As in purification, whose forward takes gradients."""

    def with_gradients(model: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return model.inner(x)

    assert rows(Altered(with_gradients), attack).equals(rows(plain(), attack))


def test_modes_and_generators_stay_as_they_are() -> None:
    """A forward that switches to train mode is refused and the modes are put back; no generator of the caller moves."""

    def training(model: Any, x: Tensor) -> Tensor:
        model.inner.train()
        return model.inner(x)

    network = Altered(training)
    with pytest.raises(InputError, match=r"changes its own state when it classifies \(train mode of inner\)"):
        rows(network)
    assert not any(module.training for module in network.modules())

    def seeding(model: Any, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        return model.inner(x)

    before, numpy_before, python_before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    rows_or_refusal(Altered(seeding))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert random.getstate() == python_before


def rows_or_refusal(model: nn.Module) -> None:
    """Attack all images; a refusal is as good."""
    try:
        rows(model)
    except InputError:
        return
